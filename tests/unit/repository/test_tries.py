"""Loads that fail: which are tried again, when, and what ends that."""

from __future__ import annotations

import asyncio

import pytest

from headrace.errors import LoadFailed, ModelNotReady
from headrace.executors import retry
from headrace.serving.served_model import State
from support.world import World, in_world, model, request


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.0)


@in_world
async def test_a_load_that_fails_is_tried_again_until_it_succeeds(world: World) -> None:
    await world.repository.load_all([model(fails=7)])
    while world.repository.get("m").state is not State.READY:
        await asyncio.sleep(0)

    assert world.executor.tried["m"] == 8
    assert world.repository.get("m").retry is None
    assert await world.answer("m") == world.repository.get("m").key


@in_world
async def test_a_load_that_fails_is_tried_again_at_once_before_it_is_reported(
    world: World,
) -> None:
    await world.repository.load_all([model(fails=1)])

    assert world.repository.get("m").state is State.READY


@in_world
async def test_a_failure_that_cannot_go_away_is_not_tried_again(world: World) -> None:
    await world.repository.load_all([model(invalid=True)])
    for _ in range(100):
        await asyncio.sleep(0)

    assert world.executor.tried["m"] == 1
    assert world.repository.get("m").why_not_ready() == "it never loads"


@in_world
async def test_a_model_that_failed_says_when_it_is_tried_again(world: World) -> None:
    retry.LONGEST_PAUSE = 30.0  # undone by the fixture
    await world.repository.load_all([model(broken=True)])

    said = world.repository.get("m").why_not_ready()
    assert said == "it is broken; next try in 1 s"
    with pytest.raises(ModelNotReady, match="it is broken$"):
        world.repository.get("m").submit(request(), None)


@in_world
async def test_an_unload_ends_the_tries(world: World) -> None:
    await world.repository.load_all([model(broken=True)])
    await world.repository.unload("m")
    tried = world.executor.tried["m"]
    for _ in range(100):
        await asyncio.sleep(0)

    assert world.executor.tried["m"] == tried
    assert world.repository.get("m").state is State.UNAVAILABLE


@in_world
async def test_a_load_on_request_comes_before_the_next_try(world: World) -> None:
    await world.repository.load_all([model(broken=True)])
    world.executor.may_load.clear()
    while not world.executor.loading:
        await asyncio.sleep(0)
    world.disk = [model()]
    asked = asyncio.create_task(world.repository.load("m"))
    while world.executor.loading:
        await asyncio.sleep(0)
    world.executor.may_load.set()
    await asked

    assert await world.answer("m") == world.repository.get("m").key
    assert len(world.executor.loaded) == 1


@in_world
async def test_the_tries_continue_after_a_load_on_request_that_fails(world: World) -> None:
    await world.repository.load_all([model(broken=True)])
    world.disk = [model(broken=True)]
    with pytest.raises(LoadFailed):
        await world.repository.load("m")
    tried = world.executor.tried["m"]
    while world.executor.tried["m"] < tried + 5:
        await asyncio.sleep(0)


@in_world
async def test_a_server_waits_for_a_model_that_is_being_tried_again(world: World) -> None:
    await world.repository.load_all([model(fails=4)])

    assert await world.repository.any_ready(patience=60)


@in_world
async def test_a_server_does_not_wait_for_what_cannot_be_loaded(world: World) -> None:
    await world.repository.load_all([model(invalid=True)])

    assert not await world.repository.any_ready(patience=60)


@in_world
async def test_a_load_that_had_all_its_time_is_not_repeated_before_a_server_gives_up(
    world: World,
) -> None:
    retry.LONGEST_PAUSE = 30.0  # undone by the fixture
    await world.repository.load_all([model(exhausted=True)])

    assert not await world.repository.any_ready(patience=60)
    assert world.executor.tried["m"] == 1


@in_world
async def test_a_load_that_had_all_its_time_is_tried_again_later(world: World) -> None:
    await world.repository.load_all([model(exhausted=True)])
    while world.executor.tried["m"] < 5:
        await asyncio.sleep(0)


@in_world
async def test_a_server_gives_up_when_its_patience_ends(world: World) -> None:
    await world.repository.load_all([model(broken=True)])

    assert not await world.repository.any_ready(patience=0)


@in_world
async def test_nothing_is_tried_after_closing(world: World) -> None:
    await world.repository.load_all([model(broken=True)])
    await world.repository.close()
    tried = world.executor.tried["m"]
    for _ in range(100):
        await asyncio.sleep(0)

    assert world.executor.tried["m"] == tried
