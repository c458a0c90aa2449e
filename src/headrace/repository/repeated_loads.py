"""Loads for callers that repeat a request until it succeeds, as Seldon's agent does."""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import suppress
from typing import Any

from headrace.errors import Conflict
from headrace.repository.repository import ModelRepository
from headrace.settings import ModelSettings

# What tells whether a model on disk has changed.
Stamp = list[tuple[dict[str, Any], int, int, int]]


class RepeatedLoads:
    """Loads a model unless it is loaded and its files are unchanged; a load under way is joined."""

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository
        # By name: what was on disk before the last load that succeeded.
        self._stamps: dict[str, Stamp] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}

    async def load(self, name: str) -> None:
        """Return when the model, as it is on disk now, can answer.

        Raises:
            NotFound, LoadFailed: see `ModelRepository.load`.
        """
        task = self._under_way.get(name)
        if task is None:
            task = self._under_way[name] = asyncio.create_task(self._load(name))
            task.add_done_callback(lambda _: self._under_way.pop(name))
            # The callers may have left, and then nobody reads the outcome.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(task)

    async def _load(self, name: str) -> None:
        while True:
            await self._repository.settled(name)
            found = await self._repository.described(name)
            stamp = await asyncio.to_thread(_stamp, found)
            if found and stamp == self._stamps.get(name) and self._are_ready(name, found):
                return
            try:
                await self._repository.load(name)
            except Conflict:
                # An unload began in the meantime.
                continue
            self._stamps[name] = stamp
            return

    def _are_ready(self, name: str, found: list[ModelSettings]) -> bool:
        models = [self._repository.known(name, settings.version) for settings in found]
        return all(model is not None and self._repository.is_ready(model) for model in models)


def _stamp(found: list[ModelSettings]) -> Stamp:
    """Of each version, its settings, and the number, size and latest change of its files."""
    return [(settings.to_dict(), *_files(settings.folder)) for settings in found]


def _files(root: str) -> tuple[int, int, int]:
    count = size = latest = 0
    for folder, inner, files in os.walk(root):
        # Python writes it while the model is loaded.
        inner[:] = [name for name in inner if name != "__pycache__"]
        for file in files:
            with suppress(OSError):
                status = os.stat(os.path.join(folder, file))
                if stat.S_ISREG(status.st_mode):
                    count += 1
                    size += status.st_size
                    # Tools that copy files keep the time of their modification, but not this.
                    latest = max(latest, status.st_ctime_ns)
    return count, size, latest
