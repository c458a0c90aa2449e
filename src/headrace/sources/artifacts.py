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

from headrace.errors import LoadFailed, MissingDependency, StoreFailed
from headrace.runtimes.artefact import path_of_file_uri
from headrace.settings import home_folder
from headrace.store.store import item_at

logger = logging.getLogger("headrace.sources")

Progress = Callable[[str], None]

_USER = re.compile(r"(?<=//)[^/@]*@")


def is_uri(model: str) -> bool:
    """Whether a MODEL argument names something MLflow resolves rather than a path."""
    scheme, separator, _ = model.partition(":")
    return bool(separator) and len(scheme) > 1 and scheme.replace("-", "").isalnum()


async def fetch(uri: str, timeout: float, progress: Progress) -> tuple[str, Path | None]:
    """Return the local path of `uri` and, when it was downloaded, the folder to remove later.

    `progress` gets a sentence about what is tried, and for how many seconds at most.

    Raises:
        LoadFailed: the URI cannot be resolved or downloaded within `timeout` seconds; the message
            is MLflow's reason.
        InvalidModel: it is in the store, and its files are not as they were stored.
        MissingDependency: the MLflow client is not installed.
    """
    if not is_uri(uri):
        await _verify(uri)
        return uri, None
    if uri.startswith("file:"):
        return path_of_file_uri(uri), None
    shown = _USER.sub("", uri)
    progress(f"fetching {shown}{_from_server(uri)}, for at most {timeout:g} s (--fetch-timeout)")
    folder = _download_folder()
    command = [sys.executable, "-m", "headrace.worker.fetch", uri, str(folder)]
    child = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    troubles: list[str] = []
    try:
        output = await asyncio.wait_for(_answer(child, shown, timeout, troubles), timeout)
        answer = _parse(output)
    except BaseException as exc:
        if child.returncode is None:
            child.kill()
            await child.wait()
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(exc, asyncio.TimeoutError):
            reason = f"; {troubles[-1]}" if troubles else ""
            raise LoadFailed(
                f"'{shown}' was not fetched within {timeout:g} s (--fetch-timeout){reason}"
            ) from None
        raise
    return answer, folder


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


def _from_server(uri: str) -> str:
    """Where MLflow's client looks an URI up, if that is a server."""
    scheme = uri.partition(":")[0]
    variables = {"models": ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI")}
    names = variables.get(scheme, ("MLFLOW_TRACKING_URI",) if scheme == "runs" else ())
    place = next((os.environ[name] for name in names if os.environ.get(name)), "")
    return f" from {_USER.sub('', place)}" if "://" in place else ""


async def _verify(path: str) -> None:
    """Compare what is in the store with its digests. Reading it all may take a while."""
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


def _parse(output: bytes) -> str:
    try:
        answer = json.loads(output)
    except ValueError:
        raise LoadFailed("the process that fetches models ended without an answer") from None
    if "path" in answer:
        return str(answer["path"])
    if answer.get("kind") == MissingDependency.kind:
        raise MissingDependency(answer["message"])
    raise LoadFailed(answer["message"])


def _downloads() -> Path:
    return home_folder() / "downloads"


def _download_folder() -> Path:
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
