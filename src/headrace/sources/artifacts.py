"""Turns a model URI into a local path. MLflow's client resolves URIs, in a child process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from headrace.errors import LoadFailed, MissingDependency, StoreFailed
from headrace.settings import home_folder
from headrace.store.store import item_at

logger = logging.getLogger("headrace.sources")

FETCH_TIMEOUT = 600.0


def is_uri(model: str) -> bool:
    """Whether a MODEL argument names something MLflow resolves rather than a path."""
    scheme, separator, _ = model.partition(":")
    return bool(separator) and len(scheme) > 1 and scheme.replace("-", "").isalnum()


async def fetch(uri: str) -> tuple[str, Path | None]:
    """Return the local path of `uri` and, when it was downloaded, the folder to remove later.

    Raises:
        LoadFailed: the URI cannot be resolved or downloaded; the message is MLflow's reason.
        InvalidModel: it is in the store, and its files are not as they were stored.
        MissingDependency: the MLflow client is not installed.
    """
    if not is_uri(uri):
        await _verify(uri)
        return uri, None
    if urlsplit(uri).scheme == "file":
        return unquote(urlsplit(uri).path), None
    folder = _download_folder()
    command = [sys.executable, "-m", "headrace.worker.fetch", uri, str(folder)]
    child = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await asyncio.wait_for(child.communicate(), FETCH_TIMEOUT)
        answer = _parse(output)
    except BaseException as exc:
        if child.returncode is None:
            child.kill()
            await child.wait()
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(exc, asyncio.TimeoutError):
            raise LoadFailed(f"'{uri}' was not fetched within {FETCH_TIMEOUT:g} s") from None
        raise
    return answer, folder


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
