"""The repository against a fake executor: what changes when, and what callers never notice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import Conflict, LoadFailed, ModelNotReady, NotFound
from headrace.executors import retry
from headrace.repository.loading import FETCHES_AT_ONCE, LOADS_AT_ONCE
from headrace.serving.served_model import State
from headrace.sources import artifacts
from support.world import World, in_world, model, request


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.0)


@in_world
async def test_a_load_replaces_the_model(world: World) -> None:
    world.disk = [model()]
    await world.repository.load_all(world.disk)
    await world.repository.load("m")

    assert await world.answer("m") == "m#2"
    assert list(world.executor.loaded) == ["m#2"]


@in_world
async def test_a_model_that_answers_shows_the_progress_of_the_next_load(world: World) -> None:
    world.disk = [model()]
    await world.repository.load_all(world.disk)
    old = world.repository.get("m")
    world.placement.may_place.clear()
    load = asyncio.create_task(world.repository.load("m"))
    while not old.reason:
        await asyncio.sleep(0)

    assert (old.state, old.reason) == (State.READY, "a new load is under way: half of it is there")
    assert await world.answer("m") == "m#1"

    world.placement.may_place.set()
    await load
    assert world.repository.get("m").reason == ""


@in_world
async def test_a_model_whose_signature_cannot_be_read_is_unavailable_and_freed(
    world: World,
) -> None:
    world.disk = [model(signature={"inputs": "[{]"})]

    with pytest.raises(LoadFailed):
        await world.repository.load("m")

    assert world.repository.get("m").state is State.UNAVAILABLE
    assert world.executor.loaded == {}


@in_world
async def test_what_was_queued_before_a_load_is_answered_before_it_returns(world: World) -> None:
    world.disk = [model()]
    await world.repository.load_all(world.disk)
    world.executor.may_answer.clear()
    waiting = [world.repository.get("m").submit(request(), None) for _ in range(3)]
    loading = asyncio.create_task(world.repository.load("m"))
    while len(world.executor.loaded) < 2:
        await asyncio.sleep(0)
    world.executor.may_answer.set()
    await loading

    assert [done.result().parameters for done in waiting] == [{"key": "m#1"}] * 3


@in_world
async def test_a_caller_who_holds_the_old_model_gets_the_new_one(world: World) -> None:
    world.disk = [model()]
    await world.repository.load_all(world.disk)
    held = world.repository.get("m")
    await world.repository.load("m")

    response = await held.submit(request(), None)

    assert response.parameters == {"key": "m#2"}


@in_world
async def test_a_load_waits_for_open_streams_of_the_old_model(world: World) -> None:
    world.disk = [model()]
    await world.repository.load_all(world.disk)
    world.executor.may_answer.clear()
    stream = world.repository.get("m").stream(request(), None)
    piece = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    loading = asyncio.create_task(world.repository.load("m"))
    while world.repository.get("m").key != "m#2":
        await asyncio.sleep(0)
    assert not loading.done()
    world.executor.may_answer.set()

    assert (await piece).parameters == {"key": "m#1"}
    await stream.aclose()
    await loading


@in_world
async def test_a_failed_load_leaves_the_old_model_and_says_why(world: World) -> None:
    world.disk = [model()]
    await world.repository.load_all(world.disk)
    world.disk = [model(broken=True)]
    with pytest.raises(LoadFailed, match="it is broken"):
        await world.repository.load("m")

    assert await world.answer("m") == "m#1"
    assert "it is broken" in world.repository.get("m").reason
    assert world.repository.get("m").state is State.READY


@in_world
async def test_one_broken_version_holds_back_all_of_them(world: World) -> None:
    world.disk = [model(version="1")]
    await world.repository.load_all(world.disk)
    world.disk = [model(version="1"), model(version="2", broken=True)]
    with pytest.raises(LoadFailed):
        await world.repository.load("m")

    assert world.repository.versions("m") == ["1"]
    assert await world.answer("m") == "m#1"
    assert list(world.executor.loaded) == ["m#1"]


@in_world
async def test_a_second_load_of_a_model_is_a_conflict(world: World) -> None:
    world.disk = [model()]
    await world.repository.load_all(world.disk)
    world.executor.may_load.clear()
    first = asyncio.create_task(world.repository.load("m"))
    await asyncio.sleep(0)
    with pytest.raises(Conflict):
        await world.repository.load("m")
    with pytest.raises(Conflict):
        await world.repository.unload("m")
    world.executor.may_load.set()
    await first

    assert await world.answer("m") == "m#2"


@in_world
async def test_an_unload_waits_for_the_last_open_stream(world: World) -> None:
    world.disk = [model()]
    await world.repository.load_all(world.disk)
    served = world.repository.get("m")
    streams = [served.stream(request(), None) for _ in range(2)]
    for stream in streams:
        await anext(stream)
    unloading = asyncio.create_task(world.repository.unload("m"))
    while served._streams_ended is None:
        await asyncio.sleep(0)
    for stream in streams:
        for _ in range(10):
            await asyncio.sleep(0)
        assert list(world.executor.loaded) == ["m#1"]
        await stream.aclose()
    await unloading

    assert world.executor.loaded == {}


def test_what_was_downloaded_for_a_model_is_removed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fetch(*_: Any) -> artifacts.Fetched:
        (tmp_path / "fetched").mkdir()
        return artifacts.Fetched(str(tmp_path / "fetched"), tmp_path / "fetched")

    @in_world
    async def test(world: World) -> None:
        world.disk = [model()]
        await world.repository.load_all(world.disk)
        assert (tmp_path / "fetched").exists()
        await world.repository.unload("m")

    monkeypatch.setattr(artifacts, "fetch", fetch)
    test()

    assert not (tmp_path / "fetched").exists()


@in_world
async def test_a_load_continues_when_its_caller_has_left(world: World) -> None:
    world.disk = [model()]
    await world.repository.load_all(world.disk)
    world.executor.may_load.clear()
    asked = asyncio.create_task(world.repository.load("m"))
    await asyncio.sleep(0)
    asked.cancel()
    world.executor.may_load.set()
    while world.repository.get("m").key == "m#1":
        await asyncio.sleep(0)

    assert await world.answer("m") == "m#2"


@in_world
async def test_an_unloaded_model_stays_known_and_answers_nothing(world: World) -> None:
    world.disk = [model()]
    await world.repository.load_all(world.disk)
    await world.repository.unload("m")

    found = world.repository.get("m")
    assert (found.state, found.reason, found.wanted) == (State.UNAVAILABLE, "unloaded", False)
    assert world.executor.loaded == {}
    with pytest.raises(ModelNotReady, match="unloaded"):
        found.submit(request(), None)


@in_world
async def test_an_unloaded_model_loads_again(world: World) -> None:
    world.disk = [model()]
    await world.repository.load_all(world.disk)
    await world.repository.unload("m")
    await world.repository.load("m")

    assert await world.answer("m") == "m#2"
    assert world.repository.get("m").wanted


@in_world
async def test_what_was_queued_before_an_unload_is_answered(world: World) -> None:
    world.disk = [model()]
    await world.repository.load_all(world.disk)
    waiting = world.repository.get("m").submit(request(), None)
    await world.repository.unload("m")

    assert waiting.result().parameters == {"key": "m#1"}


@in_world
async def test_a_model_that_nobody_knows_cannot_be_loaded_or_unloaded(world: World) -> None:
    with pytest.raises(NotFound):
        await world.repository.load("m")
    with pytest.raises(NotFound):
        await world.repository.unload("m")


@in_world
async def test_a_new_model_that_fails_is_listed_and_not_waited_for(world: World) -> None:
    world.disk = [model(broken=True)]
    with pytest.raises(LoadFailed):
        await world.repository.load("m")

    found = world.repository.get("m")
    assert (found.state, found.reason, found.wanted) == (State.UNAVAILABLE, "it is broken", False)


@in_world
async def test_a_version_that_left_the_disk_is_gone_after_a_load(world: World) -> None:
    world.disk = [model(version="1"), model(version="2")]
    await world.repository.load_all(world.disk)
    world.disk = [model(version="2")]
    await world.repository.load("m")

    assert world.repository.versions("m") == ["2"]
    assert list(world.executor.loaded) == ["m#3"]


@pytest.mark.parametrize(
    ("versions", "ordered"),
    [
        (["10", "9", "1"], ["1", "9", "10"]),
        (["v10", "v9"], ["v9", "v10"]),
        (["1.10", "1.9"], ["1.9", "1.10"]),
        (["2", "beta"], ["beta", "2"]),
    ],
    ids=["numbers", "with a letter", "dotted", "words below numbers"],
)
def test_the_highest_version_is_the_default(versions: list[str], ordered: list[str]) -> None:
    @in_world
    async def test(world: World) -> None:
        await world.repository.load_all([model(version=version) for version in versions])

        assert world.repository.versions("m") == ordered
        assert world.repository.get("m").version == ordered[-1]

    test()


@in_world
async def test_the_model_without_a_version_is_the_default(world: World) -> None:
    await world.repository.load_all([model(version="9"), model()])

    assert world.repository.get("m").version is None


@in_world
async def test_a_version_that_did_not_load_is_not_the_default(world: World) -> None:
    await world.repository.load_all([model(version="1"), model(version="2", broken=True)])

    assert world.repository.get("m").version == "1"


@in_world
async def test_few_models_load_at_once(world: World) -> None:
    await world.repository.load_all([model(f"m{number}") for number in range(50)])

    assert world.executor.most_loading == LOADS_AT_ONCE
    assert len(world.executor.loaded) == 50


def test_downloads_that_take_long_hold_up_no_model_that_is_on_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_end, fetching = asyncio.Event(), set[str]()

    async def fetch(uri: str, *_: Any) -> artifacts.Fetched:
        if uri.startswith("s3:"):
            fetching.add(uri)
            await may_end.wait()
        return artifacts.Fetched(uri)

    @in_world
    async def test(world: World) -> None:
        count = 2 * max(FETCHES_AT_ONCE, LOADS_AT_ONCE)
        slow = [replace(model(f"slow{n}"), uri=f"s3://bucket/{n}") for n in range(count)]
        loading = asyncio.create_task(world.repository.load_all(slow))
        while len(fetching) < FETCHES_AT_ONCE:
            await asyncio.sleep(0)
        here = [replace(model(f"here{n}"), uri=uri) for n, uri in enumerate(("/m", "file:///m"))]
        await asyncio.wait_for(world.repository.load_all(here), 20)

        assert sorted(world.executor.loaded) == [f"here0#{count + 1}", f"here1#{count + 2}"]
        assert len(fetching) == FETCHES_AT_ONCE
        may_end.set()
        await loading
        assert len(world.executor.loaded) == count + 2

    monkeypatch.setattr(artifacts, "fetch", fetch)
    test()


@in_world
async def test_counters_continue_after_a_load(world: World) -> None:
    world.disk = [model()]
    await world.repository.load_all(world.disk)
    world.repository.get("m").metrics.successes = 7
    await world.repository.load("m")

    assert world.repository.get("m").metrics.successes == 7
