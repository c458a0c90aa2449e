"""Loads that a caller repeats, against a fake executor."""

from __future__ import annotations

import asyncio

import pytest

from headrace.errors import LoadFailed, NotFound
from headrace.executors import retry
from headrace.repository.repeated_loads import RepeatedLoads
from support.world import World, in_world, model


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.0)


@in_world
async def test_a_model_is_loaded_again_only_if_it_has_changed_or_was_unloaded(
    world: World,
) -> None:
    world.disk = [model()]
    loads = RepeatedLoads(world.repository)
    for key in ("m#1", "m#1"):
        await loads.load("m")
        assert await world.answer("m") == key

    world.disk = [model(changed=True)]
    await loads.load("m")
    assert await world.answer("m") == "m#2"

    await world.repository.unload("m")
    await loads.load("m")
    assert await world.answer("m") == "m#3"


@in_world
async def test_all_who_ask_during_a_load_get_its_outcome(world: World) -> None:
    world.disk = [model(invalid=True)]
    loads = RepeatedLoads(world.repository)

    outcomes = await asyncio.gather(*(loads.load("m") for _ in range(3)), return_exceptions=True)

    assert [type(outcome).__base__ for outcome in outcomes] == [LoadFailed] * 3
    assert world.executor.tried == {"m": 1}


@in_world
async def test_a_load_waits_for_an_unload_that_is_under_way(world: World) -> None:
    world.disk = [model()]
    loads = RepeatedLoads(world.repository)
    await loads.load("m")

    unload = asyncio.create_task(world.repository.unload("m"))
    await asyncio.sleep(0)
    await asyncio.gather(loads.load("m"), unload)

    assert await world.answer("m") == "m#2"


@in_world
async def test_a_model_that_is_not_on_disk_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        await RepeatedLoads(world.repository).load("m")


@in_world
async def test_an_unload_waits_for_another_and_one_that_is_done_may_be_repeated(
    world: World,
) -> None:
    world.disk = [model()]
    loads = RepeatedLoads(world.repository)
    await loads.load("m")

    await asyncio.gather(*(loads.unload("m") for _ in range(3)))
    await loads.unload("m")

    assert not world.repository.is_ready(world.repository.get("m"))
    with pytest.raises(NotFound):
        await loads.unload("nobody")
