"""A server that follows a registry, both fakes, in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from headrace.errors import LoadFailed, ModelFailed
from headrace.repository.follower import Follower
from headrace.repository.requested_loads import RequestedLoads
from headrace.serving.served_model import State
from headrace.settings import ModelSettings, ServerSettings
from headrace.sources.model_registry import Registered
from support.world import World


class FakeRegistry:
    """Has one registered model, whose aliases a test moves."""

    def __init__(self, **aliases: str) -> None:
        self.aliases = aliases
        self.tags: dict[str, str] = {}
        self.is_down = False
        self.asked = 0

    async def look(self, name: str) -> Registered:
        self.asked += 1
        if self.is_down:
            raise LoadFailed("it is down")
        return Registered(dict(self.aliases), {}, "9", dict(self.tags))

    async def tag(self, name: str, key: str, value: str) -> None:
        if self.is_down:
            raise LoadFailed("it is down")
        self.tags[key] = value

    async def close(self) -> None: ...


class Replica:
    """A server that follows the model `m`, with a fake registry and fake workers."""

    def __init__(self, registry: FakeRegistry, follow: dict[str, Any], **settings: Any) -> None:
        self.world = World()
        self.registry = registry
        self.model = ModelSettings("m", "fake:Fake", uri="models:/m@champion", follow=follow)
        self.world.disk = [self.model]
        loop = asyncio.get_running_loop()
        self.follower = Follower(
            self.world.repository,
            ServerSettings(**settings),
            [self.model],
            cast(Any, registry),
            clock=lambda: 1e9 + loop.time(),
        )
        self.loads = RequestedLoads(self.world.repository, self.follower)
        self.traffic = self.follower.traffic["m"]

    async def start(self) -> Replica:
        await self.follower.start()
        await asyncio.sleep(1)
        return self

    @property
    def roles(self) -> tuple[str | None, str | None, float]:
        """The stable version, the canary, and its percentage."""
        stable, canary = self.traffic.stable, self.traffic.canary
        return stable and stable.version, canary and canary.version, self.traffic.percent

    @property
    def listed(self) -> dict[str | None, State]:
        return {each.version: each.state for each in self.world.repository.models()}

    def breach(self) -> None:
        """Let a rule end the canary."""
        assert self.traffic.canary is not None
        canary = self.traffic.canary
        for _ in range(self.traffic.follow.rollback.min_requests):
            self.traffic.failed(canary, ModelFailed.kind)
