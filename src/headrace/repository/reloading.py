"""Loads a service again when its files change, for development."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from headrace.errors import ConfigurationError, HeadraceError, NotFound
from headrace.repository.repository import ModelRepository
from headrace.runtimes import needs_worker
from headrace.settings import ModelSettings

logger = logging.getLogger("headrace.repository")

# Seconds between two looks at the files.
INTERVAL = 0.5
SUFFIXES = (".py", ".yaml", ".yml", ".json")
# More than a service has; a folder that holds a whole disk is not looked through.
MOST_FILES = 5000

Seen = dict[str, tuple[int, int]]


class Reloader:
    """Watches the files below `folder`, and loads what `find` finds whenever one has changed.

    `find` may block. What does not load is logged, and what was served before goes on.
    """

    def __init__(
        self, repository: ModelRepository, folder: Path, find: Callable[[], list[ModelSettings]]
    ) -> None:
        self._repository = repository
        self._folder = folder
        self._find = find
        # From now on: a file may change while its service is being loaded.
        self._seen = self._look()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            now = await asyncio.to_thread(self._look)
            if now != self._seen:
                changed = sorted(name for name, _ in set(now.items()) ^ set(self._seen.items()))
                logger.info("%s changed, loading again", ", ".join(dict.fromkeys(changed)))
                self._seen = now
                await self._reload()

    def _look(self) -> Seen:
        found: Seen = {}
        for path in self._folder.rglob("*"):
            inner = path.relative_to(self._folder)
            if path.suffix not in SUFFIXES or any(part[0] in "._" for part in inner.parts[:-1]):
                continue
            try:
                status = path.stat()
            except OSError:
                continue
            found[str(inner)] = (status.st_mtime_ns, status.st_size)
            if len(found) >= MOST_FILES:
                break
        return found

    async def _reload(self) -> None:
        try:
            models = await asyncio.to_thread(self._find)
        except ConfigurationError as exc:
            logger.error("not loaded again: %s", exc.message)
            return
        for settings in models:
            # Runners first: the service asks for their models as soon as it is loaded.
            if needs_worker(settings) or self._differs(settings):
                try:
                    await self._repository.load(settings.name)
                except HeadraceError as exc:
                    logger.error("model '%s' was not loaded again: %s", settings.name, exc.message)

    def _differs(self, settings: ModelSettings) -> bool:
        try:
            return self._repository.get(settings.name).settings != settings
        except NotFound:
            return True
