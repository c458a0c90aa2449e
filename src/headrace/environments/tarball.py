"""Unpacks an environment packed by conda-pack, in place."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from headrace.archives.archive import Archive
from headrace.archives.decompression import CHUNK, Abandoned, Stop
from headrace.environments import child, probe
from headrace.environments.shelf import Place, Record
from headrace.errors import InvalidModel, LoadFailed, LoadKilled, shorten

T = TypeVar("T")

# Part of every key: raise it when archives must be unpacked differently.
SCHEMA = b"headrace-tarball-1\n"


async def key_of(tarball: Path) -> str:
    """16 hexadecimal digits of the content.

    Raises:
        LoadFailed: there is no such file, or it cannot be read.
    """
    what = f"environment_tarball '{shorten(tarball.name)}'"
    if not tarball.is_file():
        raise InvalidModel(f"{what}: there is no such file")
    try:
        return await in_thread(lambda stop: _digest(tarball, stop))
    except OSError as error:
        raise LoadFailed(f"{what} cannot be read: {error.strerror}") from None


async def unpack(
    tarball: Path, place: Place, lock: int, timeout: float, progress: Callable[[str], None]
) -> Record:
    """Unpack the environment, without its record. `conda-unpack` holds the descriptor `lock` too.

    It is unpacked where it stays, because `conda-unpack` writes that folder into its files.

    Raises:
        LoadFailed: the archive is refused, its Python does not run, or time is up.
    """
    what = f"environment_tarball '{shorten(tarball.name)}'"
    started = time.time()
    try:
        async with asyncio.timeout(timeout):
            progress("checking its environment's archive")
            await in_thread(lambda stop: unpack_files(tarball, place.folder, stop))
            progress("preparing its environment")
            await _relocate(place, lock, timeout)
            version = await probe.version_of(place.python, what)
    except (TimeoutError, child.Overdue):
        raise LoadFailed(
            f"{what} was not unpacked within {timeout:g} s; --environment-timeout allows more"
        ) from None
    except LoadFailed as error:
        message = error.message if error.message.startswith(what) else f"{what}: {error.message}"
        raise type(error)(message) from None
    except OSError as error:
        raise LoadFailed(f"{what} cannot be read: {error.strerror}") from None
    return Record(version, [tarball.name], started, round(time.time() - started, 1))


async def in_thread(work: Callable[[Stop], T]) -> T:
    """The result of blocking work. When cancelled, it stops the work and waits until it has."""
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        # Retrieved, or asyncio reports that nobody did so.
        task.exception()
        raise


def _digest(tarball: Path, stop: Stop) -> str:
    found = hashlib.sha256(SCHEMA)
    with tarball.open("rb") as file:
        while data := file.read(CHUNK):
            if stop.is_set():
                raise Abandoned
            found.update(data)
    return found.hexdigest()[:16]


def unpack_files(tarball: Path, folder: Path, stop: Stop) -> None:
    """Check the whole archive, then write it to a new folder.

    Raises:
        LoadFailed: it is refused, and nothing was written, or it could not be written.
        Abandoned: `stop` was set.
    """
    with tarball.open("rb") as file:
        archive = Archive(file, stop)
        archive.check("bin/python")
        folder.mkdir()
        archive.extract(folder)


async def _relocate(place: Place, lock: int, timeout: float) -> None:
    """Adapt a conda environment to the folder it is in now."""
    script = place.folder / "bin" / "conda-unpack"
    if not script.is_file():
        return
    program = child.Program(
        [str(place.python), str(script)], probe.variables(), place.folder, [lock]
    )
    try:
        outcome = await child.run(program, timeout)
    except OSError:
        raise LoadFailed("its Python does not run") from None
    if outcome.code != 0:
        failure = LoadKilled if outcome.was_killed else LoadFailed
        raise failure(f"its conda-unpack failed with status {outcome.code}")
