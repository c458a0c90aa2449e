"""Turns a model URI into a local path. MLflow's client resolves URIs, in a child process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from headrace.errors import (
    OUTSIDE,
    HeadraceError,
    InvalidModel,
    LoadFailed,
    LoadKilled,
    StoreFailed,
    from_kind,
)
from headrace.executors.executor import Exhausted
from headrace.keeper import keeper
from headrace.masking import without_credentials
from headrace.runtimes.artefact import path_of_file_uri
from headrace.settings import home_folder
from headrace.sources.names import is_uri
from headrace.store.kinds import is_in_store

logger = logging.getLogger("headrace.sources")

Progress = Callable[[str], None]

# Seconds after which a fetch says that it still waits; then after twice as many, and so on.
FIRST_WORD = 10.0
# The variables that say where MLflow's client looks up registered models; the first one counts.
REGISTRY_VARIABLES = ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI")

# A logged model has an identifier, which needs no version.
_UNVERSIONED = re.compile(r"models:/+(?!m-[0-9a-f]{32}$)([^/@]+)")


class Fetched(NamedTuple):
    """A model that is here: its path and, if it was downloaded, the folder to remove later.

    `origin` has the `source` from which a registered model came, and the `digest` of its files.
    """

    path: str
    folder: Path | None = None
    origin: dict[str, str] = {}


async def fetch(uri: str, timeout: float, progress: Progress, with_origin: bool = False) -> Fetched:
    """Bring what `uri` names to this machine, if it is not there.

    `progress` gets a sentence about what is tried, and for how many seconds at most. `with_origin`
    asks for `Fetched.origin`, for which every file is read.

    Raises:
        Exhausted: it was not downloaded within `timeout` seconds, or MLflow's client has given up
            on a server that does not answer; the message has the last reason.
        LoadFailed: its files cannot be read now.
        InvalidModel: there is no such model, or the URI or the credentials are wrong.
        MissingDependency: the MLflow client is not installed.
    """
    if not is_uri(uri):
        await _verify(uri)
        return Fetched(uri)
    if uri.startswith("file:"):
        return Fetched(path_of_file_uri(uri))
    shown = without_credentials(uri)
    server = _server(uri)
    source = f" from {server}" if server else ""
    progress(f"fetching {shown}{source}, for at most {timeout:g} s (--fetch-timeout)")
    folder = private_folder()
    # With -P, since the working directory may be that of a model, and hold modules.
    command = [sys.executable, "-P", "-m", "headrace.worker.fetch", uri, str(folder)]
    if with_origin:
        command.append("--origin")
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    keeper.add(child.pid)
    troubles: list[str] = []
    waiting = asyncio.create_task(_waits(f"fetching {shown}{source}", timeout, progress))
    try:
        output = await asyncio.wait_for(_answer(child, shown, timeout, troubles), timeout)
        if child.returncode is not None and -child.returncode in OUTSIDE:
            raise LoadKilled("the process that fetches models was killed")
        answer = _parse(output, _hint(uri))
    except BaseException as exc:
        is_empty = not any(folder.iterdir())
        if child.returncode is None:
            child.kill()
            await child.wait()
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(exc, asyncio.TimeoutError):
            nothing = [f"nothing of it has arrived{source}"] if is_empty else []
            reason = "; ".join(["", *(troubles or nothing)[-1:]])
            raise Exhausted(
                f"'{shown}' was not fetched within {timeout:g} s (--fetch-timeout){reason}"
            ) from None
        raise
    finally:
        keeper.remove(child.pid)
        waiting.cancel()
    return Fetched(str(answer["path"]), folder, answer.get("origin", {}))


async def _waits(what: str, timeout: float, progress: Progress) -> None:
    """Say again and again that a fetch still waits, with growing pauses."""
    pause = waited = FIRST_WORD
    while True:
        await asyncio.sleep(pause)
        progress(f"{what}, for {waited:g} s so far and at most {timeout:g} s (--fetch-timeout)")
        pause, waited = waited, waited * 2


async def _answer(
    child: asyncio.subprocess.Process, uri: str, timeout: float, troubles: list[str]
) -> bytes:
    """The last line that the child prints; those before it are about tries that failed."""
    assert child.stdout is not None, "it was started with a pipe"
    last = b""
    async for line in child.stdout:
        last = line
        trouble = _trouble(line)
        if trouble and trouble not in troubles:
            logger.warning(
                "fetching %s: %s; trying again, for at most %g s (--fetch-timeout)",
                uri,
                trouble,
                timeout,
            )
            troubles.append(trouble)
    await child.wait()
    return last


def _trouble(line: bytes) -> str:
    try:
        answer = json.loads(line)
    except ValueError:
        return ""
    return str(answer.get("trouble", ""))


def _server(uri: str) -> str:
    """The server on which MLflow's client looks up a URI, or an empty string."""
    place = next((os.environ[name] for name in _variables(uri) if os.environ.get(name)), "")
    return without_credentials(place) if "://" in place else ""


def _hint(uri: str) -> str:
    """What is often forgotten when nothing is found at a URI."""
    if name := _UNVERSIONED.fullmatch(uri):
        return f"; a model of the registry needs its version or alias: models:/{name[1]}/1"
    names = _variables(uri)
    if not names or any(os.environ.get(name) for name in names):
        return ""
    return "; MLFLOW_TRACKING_URI is not set, so it was looked for in the current folder"


def _variables(uri: str) -> tuple[str, ...]:
    """The variables that say where MLflow's client looks a URI up."""
    scheme = uri.partition(":")[0]
    if scheme == "models":
        return REGISTRY_VARIABLES
    return ("MLFLOW_TRACKING_URI",) if scheme == "runs" else ()


async def _verify(path: str) -> None:
    """Compare what is in the store with its digests. Reading it all may take a while."""
    if not is_in_store(Path(path)):
        return
    # Whoever found a model in the store has imported this by now.
    from headrace.store.store import item_at

    item = item_at(Path(path))
    if item is None:
        return
    try:
        await asyncio.to_thread(item.verify)
    except StoreFailed as error:
        logger.error("a stored model cannot be read: %s", error.message)
        raise LoadFailed(f"{item} cannot be read; the server's log has the details") from error


def sweep() -> None:
    """Remove downloads left behind by servers that are gone."""
    for folder in _downloads().glob("*-*"):
        pid = folder.name.partition("-")[0]
        if pid.isdecimal() and not _is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _parse(output: bytes, hint: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError:
        raise LoadFailed("the process that fetches models ended without an answer") from None
    if "path" in answer:
        return answer
    error: HeadraceError = from_kind(answer["kind"], answer["message"])
    if type(error) is InvalidModel:
        raise InvalidModel(error.message + hint)
    if isinstance(error, InvalidModel):
        raise error
    # The client has tried for as long as it does.
    raise Exhausted(error.message)


def _downloads() -> Path:
    return home_folder() / "downloads"


def private_folder() -> Path:
    """A new folder that only this user can read; `sweep` removes it if its server is killed."""
    _downloads().mkdir(parents=True, exist_ok=True, mode=0o700)
    return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=_downloads()))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
