"""Loads and unloads by request: a model that follows the registry is followed, or not any more."""

from __future__ import annotations

import asyncio

from headrace.repository.changes import Changes
from headrace.repository.follower import Follower
from headrace.repository.repository import ModelRepository


class RequestedLoads:
    """Hands a model to the follower if its description says so now, and else to the repository."""

    def __init__(self, repository: ModelRepository, follower: Follower) -> None:
        self._repository = repository
        self._follower = follower
        self._changes = Changes()

    async def load(self, name: str) -> None:
        """Load a model as it is described now. Continues even if the caller leaves.

        Raises:
            NotFound, Conflict, LoadFailed: see `ModelRepository.load` and `Follower.load`.
        """
        await asyncio.shield(self._changes.begin(name, self._load(name)))

    async def unload(self, name: str) -> None:
        """Unload a model, and follow it no more. Continues even if the caller leaves.

        Raises:
            NotFound, Conflict: see `ModelRepository.unload`.
        """
        await asyncio.shield(self._changes.begin(name, self._unload(name)))

    async def settled(self, name: str) -> None:
        """Wait until nobody loads or unloads a model."""
        await self._changes.settled(name)
        if not self._follower.follows(name):
            await self._repository.settled(name)

    async def _load(self, name: str) -> None:
        found = await self._repository.described(name)
        followed = [settings for settings in found if settings.follow is not None]
        if followed:
            await self._follower.load(followed[-1])
            return
        if self._follower.follows(name):
            await self._follower.leave(name)
        await self._repository.load(name)

    async def _unload(self, name: str) -> None:
        if self._follower.follows(name):
            await self._follower.leave(name)
        await self._repository.unload(name)
