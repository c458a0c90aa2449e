"""Loads and unloads for callers that repeat a request until it succeeds, as Seldon's agent does."""

from __future__ import annotations

import asyncio

from headrace.errors import Conflict
from headrace.repository.repository import ModelRepository
from headrace.repository.requested_loads import RequestedLoads
from headrace.repository.stamp import Stamp, stamp_of
from headrace.settings import ModelSettings


class RepeatedLoads:
    """Loads a model unless it is loaded and its files are unchanged; a load under way is joined.

    `loads` is what does it, if it is not the repository itself.
    """

    def __init__(self, repository: ModelRepository, loads: RequestedLoads | None = None) -> None:
        self._repository = repository
        self._loads = loads or repository
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

    async def unload(self, name: str) -> None:
        """Return when the model is unloaded; an unload that is under way is waited for.

        Raises:
            NotFound: see `ModelRepository.unload`.
        """
        while True:
            await self._loads.settled(name)
            try:
                await self._loads.unload(name)
            except Conflict:
                # Another one began in the meantime.
                continue
            return

    async def _load(self, name: str) -> None:
        while True:
            await self._loads.settled(name)
            found = await self._repository.described(name)
            stamp = await asyncio.to_thread(stamp_of, found)
            if found and stamp == self._stamps.get(name) and self._are_ready(name, found):
                return
            try:
                await self._loads.load(name)
            except Conflict:
                # An unload began in the meantime.
                continue
            self._stamps[name] = stamp
            return

    def _are_ready(self, name: str, found: list[ModelSettings]) -> bool:
        models = [self._repository.known(name, settings.version) for settings in found]
        return all(model is not None and self._repository.is_ready(model) for model in models)
