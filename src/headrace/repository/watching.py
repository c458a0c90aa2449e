"""Watches models on disk: loads what is new or has changed, and unloads what is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from headrace.errors import Conflict, HeadraceError
from headrace.repository.loading import may_pass
from headrace.repository.repository import ModelRepository
from headrace.repository.stamp import Stamp, stamp_of
from headrace.settings import ModelSettings

logger = logging.getLogger("headrace.repository")


class Watcher:
    """Looks at the models that `find` finds every `interval` seconds, until cancelled.

    A change counts once two looks have seen the same, so that nothing is loaded while it is being
    written. What does not load is logged and not tried again until it changes, and what was served
    before goes on. Models that follow a registry are left alone. `find` may block.
    """

    def __init__(
        self,
        repository: ModelRepository,
        find: Callable[[], list[ModelSettings]],
        interval: float,
    ) -> None:
        self._repository = repository
        self._find = find
        self._interval = interval
        self._trouble = ""
        # What the last look saw, and what is served or was tried; both by name. From now on: a
        # file may change while its model is being loaded.
        self._seen: dict[str, Stamp] = {}
        self._handled: dict[str, Stamp] = {}
        self._faults: dict[str, str] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def begin(self) -> None:
        """Take what is on disk now for what is being loaded.

        Raises:
            ConfigurationError, OSError: it cannot be read.
        """
        self._handled = self._seen = self._look()

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            while True:
                await asyncio.sleep(self._interval)
                try:
                    await self.look()
                except Exception:
                    # The next look may be right, and without one no change would be seen again.
                    logger.exception("watching failed; this is a bug")
        finally:
            for task in self._under_way.values():
                task.cancel()

    async def look(self) -> None:
        """Look once, and begin what follows from it."""
        try:
            now = await asyncio.to_thread(self._look)
            if self._handled and not now:
                raise NothingFound("no model is there any more")
        except (HeadraceError, OSError) as exc:
            self._stay(str(exc))
            return
        if self._trouble:
            logger.info("the models on disk can be read again")
            self._trouble = ""
        before, self._seen = self._seen, now
        for name, stamp in now.items():
            if stamp == before.get(name) and stamp != self._handled.get(name):
                self._begin(name, self._load(name, stamp))
        for name in self._handled:
            if name not in now and name not in before:
                self._begin(name, self._remove(name))

    async def settled(self) -> None:
        """Wait until what was begun has ended."""
        while self._under_way:
            await asyncio.wait(self._under_way.values())

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        if name in self._under_way:
            work.close()
            return
        task = self._under_way[name] = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._under_way.pop(name))

    def _look(self) -> dict[str, Stamp]:
        """The stamp of each model; of one whose description is wrong now, the one before."""
        known = {
            settings["folder"]: name
            for name, stamp in self._handled.items()
            for settings, *_ in stamp
        }
        found: dict[str, list[ModelSettings]] = {}
        faults: dict[str, str] = {}
        for settings in self._find():
            if settings.fault and settings.folder in known:
                faults[known[settings.folder]] = settings.fault
            elif settings.follow is None:
                found.setdefault(settings.name, []).append(settings)
        for name, fault in faults.items():
            if self._faults.get(name) != fault:
                logger.error("not loaded again: %s", fault, extra={"model": name})
        self._faults = faults
        stamps = {name: stamp_of(versions) for name, versions in found.items()}
        return stamps | {name: self._handled[name] for name in faults}

    async def _load(self, name: str, stamp: Stamp) -> None:
        logger.info("a model changed on disk, loading it", extra={"model": name})
        try:
            await self._repository.load(name)
        except HeadraceError as exc:
            logger.error("not loaded: %s", exc.message, extra={"model": name})
            if may_pass(exc):
                return
        self._handled[name] = stamp

    async def _remove(self, name: str) -> None:
        logger.info("a model is not on disk any more, unloading it", extra={"model": name})
        try:
            await self._repository.remove(name)
        except Conflict as exc:
            logger.warning("not unloaded: %s", exc.message, extra={"model": name})
            return
        self._handled.pop(name, None)

    def _stay(self, trouble: str) -> None:
        if trouble != self._trouble:
            logger.warning("the models stay as they are: %s", trouble)
        self._trouble = trouble


class NothingFound(HeadraceError):
    """Every model is gone at once, as when a file system is no longer mounted."""
