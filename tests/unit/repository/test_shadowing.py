"""The shadows of followed models: what is loaded, and what is mirrored to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from headrace.protocol.messages import ModelMetadata, TensorMetadata
from headrace.repository.loading import Loader
from headrace.repository.repository import ModelRepository
from headrace.repository.shadowing import PAUSE, Shadowing
from headrace.rollouts.traffic import Traffic
from headrace.serving.served_model import ServedModel, State
from headrace.settings import ModelSettings, ServerSettings
from headrace.sources.follow import Followed
from support import virtual_time
from support.world import FakeExecutor, FakePlacement


class Mirrors:
    """What is mirrored: the versions of the primary and of the shadow, by name."""

    def __init__(self) -> None:
        self.now: dict[str, tuple[str | None, str | None]] = {}

    def begin(self, primary: ServedModel, shadow: ServedModel, *others: Any) -> None:
        self.now[primary.name] = primary.version, shadow.version

    def end(self, name: str) -> None:
        self.now.pop(name, None)


class Described(FakeExecutor):
    """Loads models that take one input."""

    async def load(self, key: str, settings: ModelSettings) -> ModelMetadata:
        name = settings.extra.get("input", "x")
        metadata = await super().load(key, settings)
        return replace(metadata, inputs=[TensorMetadata(name, "FP64", [-1])])


class Placed(FakePlacement):
    """Notes the settings of each model."""

    def __init__(self, executor: FakeExecutor) -> None:
        super().__init__(executor)
        self.placed: list[ModelSettings] = []

    async def place(self, key: str, settings: ModelSettings, progress: Any) -> FakeExecutor:
        self.placed.append(settings)
        return await super().place(key, settings, progress)


class World:
    """A followed model whose versions load as `extra` of each says."""

    def __init__(self, takes_incompatible: bool = False) -> None:
        self.executor = Described()
        self.placement = Placed(self.executor)
        self.extra: dict[str, dict[str, Any]] = {}
        loader = Loader(ServerSettings(), self.placement)
        self.repository = ModelRepository(loader, lambda name: [])
        self.mirrors = Mirrors()
        self.shadowing = Shadowing(loader, self.mirrors, takes_incompatible)
        follow = {"shadow": {"alias": "@next", "sample": 0.5}}
        model = ModelSettings("m", "fake:Fake", uri="models:/m@champion", follow=follow)
        self.followed = Followed(replace(model, instances=4))
        self.followed.pinned = self._pinned  # type: ignore[method-assign]
        self.traffic = Traffic(self.followed, print)

    def _pinned(self, version: str, checked: bool = True) -> ModelSettings:
        extra = self.extra.get(version, {})
        return replace(self.followed.settings, uri="", version=version, extra=extra)

    async def serve(self, version: str) -> None:
        """Load the version that answers callers."""
        self.traffic.stable = await self.repository.add(self._pinned(version))

    async def want(self, version: str | None) -> None:
        """Want a version in the shadow, and wait until everything is done."""
        self.shadowing.want(self.followed, self.traffic, version)
        for _ in range(100):
            await asyncio.sleep(0)

    @property
    def shadow(self) -> ServedModel:
        return self.shadowing.loaded["m"]


def in_world(test: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        async def body() -> None:
            world = World()
            await world.serve("1")
            await test(world)
            await world.shadowing.close()

        virtual_time.run(body())

    run.__name__ = test.__name__
    return run


@in_world
async def test_a_shadow_is_loaded_in_the_background_and_mirrored_to(world: World) -> None:
    await world.want("2")

    placed = world.placement.placed[-1]
    assert (placed.version, placed.in_background, placed.instances) == ("2", True, 1)
    assert world.mirrors.now == {"m": ("1", "2")}
    assert world.shadow.reason == "shadow: copies of 50 % of the requests"
    assert world.traffic.shadow is world.shadow


@in_world
async def test_a_version_that_callers_reach_too_is_loaded_once_more(world: World) -> None:
    await world.repository.add(world.followed.pinned("2"))
    await world.want("2")

    assert len(world.executor.loaded) == 3
    assert world.shadow is not world.repository.get("m", "2")


@in_world
async def test_another_version_takes_the_place_of_the_one_before(world: World) -> None:
    await world.want("2")
    before = world.shadow
    await world.want("3")

    assert before.state is State.UNAVAILABLE
    assert world.mirrors.now == {"m": ("1", "3")}
    assert len(world.executor.loaded) == 2


@in_world
async def test_only_the_last_version_that_is_wanted_remains(world: World) -> None:
    world.executor.may_load.clear()
    await world.want("2")
    await world.want("3")
    await world.want("4")
    world.executor.may_load.set()
    await world.want("4")

    assert world.mirrors.now == {"m": ("1", "4")}
    assert len(world.executor.loaded) == 2


@in_world
async def test_a_shadow_that_is_not_wanted_any_more_is_unloaded(world: World) -> None:
    await world.want("2")
    await world.want(None)

    assert world.shadowing.loaded == {}
    assert world.mirrors.now == {}
    assert world.traffic.shadow is None
    assert len(world.executor.loaded) == 1


@in_world
async def test_the_requests_of_the_version_that_answers_now_are_mirrored(world: World) -> None:
    await world.want("2")
    before = world.shadow
    await world.serve("3")
    await world.want("2")

    assert world.mirrors.now == {"m": ("3", "2")}
    assert world.shadow is before


@in_world
async def test_a_model_that_answers_nobody_has_no_shadow(world: World) -> None:
    world.traffic.stable = None
    await world.want("2")

    assert world.shadowing.loaded == {}


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"invalid": True}, "it never loads"),
        ({"input": "y"}, "not compatible with version 1: input 'x' is gone"),
    ],
    ids=["broken", "incompatible"],
)
def test_a_version_that_cannot_be_a_shadow_shows_why_and_is_not_tried_again(
    extra: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    @in_world
    async def test(world: World) -> None:
        world.extra["2"] = extra
        await world.want("2")
        await asyncio.sleep(10 * PAUSE)
        await world.want("2")

        assert world.shadow.state is State.UNAVAILABLE
        assert world.shadow.reason.startswith(reason)
        assert world.mirrors.now == {}
        assert len([each for each in world.placement.placed if each.version == "2"]) == 1
        await world.want("3")
        assert world.mirrors.now == {"m": ("1", "3")}

    test()
    assert caplog.text.count("version 2 gets no copies of requests") == 1


def test_an_incompatible_version_is_a_shadow_where_such_are_served() -> None:
    async def body() -> None:
        world = World(takes_incompatible=True)
        await world.serve("1")
        world.extra["2"] = {"input": "y"}
        await world.want("2")
        assert world.mirrors.now == {"m": ("1", "2")}

    virtual_time.run(body())


@in_world
async def test_a_load_that_failed_for_the_moment_is_tried_again(world: World) -> None:
    world.extra["2"] = {"fails": 2}
    world.executor.tried.clear()
    await world.want("2")
    assert world.shadow.reason == "it failed for the moment"

    await asyncio.sleep(3 * PAUSE)
    assert world.mirrors.now == {"m": ("1", "2")}


@in_world
async def test_a_mirror_ends_with_its_server(world: World) -> None:
    await world.want("2")
    await world.shadowing.close()

    assert world.mirrors.now == {}
