"""Finds an interpreter for each model, and builds or unpacks its environment once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.environments import probe
from headrace.environments.shelf import Lock, Place, Record, Shelf, size_of
from headrace.errors import InvalidModel, LoadFailed, listing, shorten
from headrace.settings import ModelSettings, ServerSettings

if TYPE_CHECKING:
    from headrace.environments.need import Need

logger = logging.getLogger("headrace.environments")

Progress = Callable[[str], None]
# Makes the environment at a place, without the record. The number is the lock's descriptor.
Make = Callable[[Place, int, Progress], Awaitable[Record]]

MOST_NAMED = 5
POLL = 0.1


class Environments:
    """The environments of one server's models.

    Those in use are locked until `close`, so that no `headrace env prune` removes them.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._manager = settings.env_manager
        self._timeout = settings.environment_timeout
        self._shelf = Shelf(settings)
        self._making: dict[str, _Making] = {}
        self._held: dict[str, Lock] = {}
        self._probed: set[Path] = set()
        self._archives: dict[tuple[str, int, int], str] = {}

    async def python_for(self, settings: ModelSettings, progress: Progress) -> str:
        """The interpreter for a model whose `uri` is a local path: `sys.executable`, or another.

        Builds or unpacks its environment first if needed; `progress` gets a short line for each
        step. A build that is cancelled by everybody who waits for it leaves nothing behind.

        Raises:
            LoadFailed: there is none, with uv's reason and the setting that changes it.
        """
        if settings.trust == "formats":
            # What a model says that it needs may run code when it is built.
            return sys.executable
        try:
            if settings.environment_path:
                return await self._existing(Path(settings.environment_path))
            if settings.environment_tarball:
                return await self._unpacked(Path(settings.environment_tarball), progress)
            return await self._built(settings, progress)
        except LoadFailed as error:
            raise type(error)(f"model '{settings.name}': {error.message}") from None
        except OSError as error:
            raise LoadFailed(
                f"model '{settings.name}': what it says about its environment cannot be read: "
                f"{error.strerror}"
            ) from None

    async def close(self) -> None:
        """Stop builds, and release the environments in use."""
        for making in list(self._making.values()):
            await making.end()
        self._making.clear()
        while self._held:
            key, lock = self._held.popitem()
            self._shelf.place(key).mark_used()
            lock.close()

    async def _existing(self, folder: Path) -> str:
        python = folder / "bin" / "python"
        what = f"environment_path '{shorten(folder.name)}'"
        if not python.exists():
            raise InvalidModel(f"{what} has no bin/python")
        if folder.samefile(sys.prefix):
            return sys.executable
        if python not in self._probed:
            await probe.version_of(python, what)
            self._probed.add(python)
        return str(python)

    async def _unpacked(self, file: Path, progress: Progress) -> str:
        # Imported here, because few models have such an archive.
        from headrace.environments import tarball

        try:
            status = file.stat()
        except OSError as error:
            what = f"environment_tarball '{shorten(file.name)}'"
            raise LoadFailed(f"{what} cannot be read: {error.strerror}") from None
        # Reading a large archive would take seconds at every start.
        archive = (str(file), status.st_size, status.st_mtime_ns)
        key = self._archives.get(archive) or await asyncio.to_thread(
            self._shelf.unpacked_from, archive
        )
        if key is None:
            progress("reading its environment's archive")
            key = await tarball.key_of(file)
        self._archives[archive] = key

        async def make(place: Place, lock: int, report: Progress) -> Record:
            record = await tarball.unpack(file, place, lock, self._timeout, report)
            return replace(record, archive=archive)

        return await self._ready(key, make, progress)

    async def _built(self, settings: ModelSettings, progress: Progress) -> str:
        wanted, lacking = await asyncio.to_thread(_asked_for, settings)
        if not wanted.is_stated:
            return sys.executable
        if self._manager != "uv" and not lacking:
            return sys.executable
        if self._manager == "local":
            logger.warning(
                "the server's environment lacks what the model asks for (%s) and --env-manager is "
                "local",
                listing(lacking, MOST_NAMED),
                extra={"model": settings.name},
            )
            return sys.executable
        if wanted.conda_only:
            logger.warning(
                "packages that only conda installs are left out: %s; environment.packages can "
                "list them by their names for pip",
                listing(wanted.conda_only, MOST_NAMED),
                extra={"model": settings.name},
            )
        return await self._ready(wanted.key(), self._builder(wanted), progress)

    def _builder(self, wanted: Need) -> Make:
        async def make(place: Place, lock: int, report: Progress) -> Record:
            # Imported here, because few servers build an environment.
            from headrace.environments import build

            return await build.build(wanted, place, self._shelf.cache, lock, self._timeout, report)

        return make

    async def _ready(self, key: str, make: Make, progress: Progress) -> str:
        """The interpreter of the environment, once it is there and locked."""
        place = self._shelf.place(key)
        if key in self._held and place.record() is None:
            # Somebody removed it by hand.
            self._held.pop(key).close()
        if key not in self._held:
            await self._join(place, make, progress)
        place.mark_used()
        return str(place.python)

    async def _join(self, place: Place, make: Make, progress: Progress) -> None:
        """Wait for the environment together with everybody else who needs it now."""
        making = self._making.get(place.key)
        if making is None or making.is_over:
            making = self._making[place.key] = _Making(place.key)
            making.start(self._obtain(place, make, making.report))
        try:
            await making.wait(progress)
        finally:
            if making.is_over and self._making.get(place.key) is making:
                del self._making[place.key]

    async def _obtain(self, place: Place, make: Make, report: Progress) -> None:
        """Get the environment and its lock, made here or by another process."""
        self._shelf.make()
        try:
            lock = place.lock()
        except OSError as error:
            raise _unwritable(error) from None
        try:
            waited_until = time.monotonic() + self._timeout
            while not self._take(place, lock):
                if lock.take(shared=False):
                    await self._make(place, make, lock, report)
                    continue
                report("waiting for another process to build its environment")
                if time.monotonic() > waited_until:
                    raise LoadFailed(
                        f"another process has not built its environment within {self._timeout:g} "
                        "s, or is still using one that was removed by hand; --environment-timeout "
                        "allows more"
                    )
                await asyncio.sleep(POLL)
        except BaseException:
            lock.close()
            raise
        self._held[place.key] = lock

    @staticmethod
    def _take(place: Place, lock: Lock) -> bool:
        """Lock the environment for use, if it is there."""
        if place.record() is None:
            return False
        if lock.take(shared=True):
            # Checked again: it may have been removed before the lock was taken.
            if place.record() is not None:
                return True
            lock.release()
        return False

    async def _make(self, place: Place, make: Make, lock: Lock, report: Progress) -> None:
        """Make the environment; needs the exclusive lock."""
        if place.record() is not None:
            return
        logger.info("environment %s: being made", place.key)
        try:
            await asyncio.to_thread(self._prepare, place)
            record = await make(place, lock.fd, report)
            size = await asyncio.to_thread(size_of, place.folder)
            place.finish(replace(record, size=size))
            if place.record() is None:
                raise LoadFailed("its environment was made, but its Python may not be run")
        except BaseException as error:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(place.wipe)
            if isinstance(error, OSError):
                raise _unwritable(error) from None
            raise
        logger.info("environment %s: is ready", place.key, extra={"seconds": record.seconds})

    def _prepare(self, place: Place) -> None:
        """Remove what a killed process left half-built."""
        place.wipe()
        self._shelf.cache.mkdir(exist_ok=True)


class _Making:
    """An environment that is being made, and those who wait for it."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._waiting: list[Progress] = []
        self._last = ""

    def start(self, work: Awaitable[None]) -> None:
        self._task = asyncio.ensure_future(work)

    @property
    def is_over(self) -> bool:
        """Whether the next caller has to start over."""
        return self._task.done() or not self._waiting

    def report(self, line: str) -> None:
        if line != self._last:
            self._last = line
            logger.debug("environment %s: %s", self._key, line)
            for progress in self._waiting:
                progress(line)

    async def wait(self, progress: Progress) -> None:
        """Wait for the end. When the last one who waits is cancelled, so is the work."""
        self._waiting.append(progress)
        progress(self._last or "preparing its environment")
        try:
            await asyncio.wait([self._task])
        finally:
            self._waiting.remove(progress)
            if not self._waiting:
                await self.end()
        if self._task.cancelled():
            raise LoadFailed("the server is stopping")
        self._task.result()

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            # Retrieved, or asyncio reports that nobody did so.
            self._task.exception()


def _asked_for(settings: ModelSettings) -> tuple[Need, list[str]]:
    """What a model needs, and what of it the server's environment lacks."""
    # Imported here: reading requirements takes libraries that a server can be live without.
    from headrace.environments import need, satisfaction

    wanted = need.of_model(settings)
    return wanted, satisfaction.unmet(wanted) if wanted.is_stated else []


def _unwritable(error: OSError) -> LoadFailed:
    return LoadFailed(
        f"its environment cannot be written: {error.strerror}; --environments-dir chooses another "
        "folder"
    )
