"""Loads and unloads by request of models that follow a registry."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from headrace.errors import Conflict, InvalidModel, LoadFailed, NotFound
from headrace.repository.repeated_loads import RepeatedLoads
from headrace.serving.served_model import State
from support.replica import FakeRegistry, Replica

CANARY = {"alias": "@challenger", "percent": 50}


def unloaded(registry: FakeRegistry, follow: dict[str, Any] | None = None) -> Replica:
    """A server that has listed its model, and loaded nothing."""
    found = Replica(registry, follow or {})
    found.follower.add_unloaded()
    return found


def test_a_model_that_is_not_loaded_at_startup_is_listed_and_nobody_is_asked(running: Any) -> None:
    async def main() -> None:
        replica = unloaded(FakeRegistry(champion="1"))
        await asyncio.sleep(100)
        assert replica.listed == {None: State.UNAVAILABLE}
        assert replica.registry.asked == 0
        assert not any(model.wanted for model in replica.world.repository.models())

    running(main())


def test_a_model_that_is_loaded_is_followed_from_then_on(running: Any) -> None:
    async def main() -> None:
        replica = unloaded(FakeRegistry(champion="1"))
        await replica.loads.load("m")
        assert replica.listed == {"1": State.READY}
        replica.registry.aliases["champion"] = "2"
        await asyncio.sleep(20)
        assert replica.world.repository.get("m").version == "2"

    running(main())


def test_a_model_that_is_loaded_gets_its_canary(running: Any) -> None:
    async def main() -> None:
        registry = FakeRegistry(champion="1", challenger="2")
        replica = unloaded(registry, {"canary": CANARY})
        await replica.loads.load("m")
        await asyncio.sleep(1)
        assert replica.follower.traffic["m"].percent == 50

    running(main())


def test_a_model_that_is_unloaded_is_not_followed_until_it_is_loaded_again(running: Any) -> None:
    async def main() -> None:
        replica = await Replica(FakeRegistry(champion="1"), {}).start()
        await replica.loads.unload("m")
        asked = replica.registry.asked
        replica.registry.aliases["champion"] = "2"
        await asyncio.sleep(100)
        assert replica.listed == {"1": State.UNAVAILABLE}
        assert replica.registry.asked == asked
        await replica.loads.load("m")
        await asyncio.sleep(20)
        assert replica.listed == {"2": State.READY}

    running(main())


def test_an_unload_gives_up_what_is_being_loaded(running: Any) -> None:
    async def main() -> None:
        registry = FakeRegistry(champion="1", challenger="2")
        replica = Replica(registry, {"canary": CANARY})
        replica.world.executor.held["2"] = asyncio.Event()
        await replica.start()
        await replica.loads.unload("m")
        assert replica.listed == {"1": State.UNAVAILABLE, "2": State.UNAVAILABLE}
        assert replica.world.executor.loaded == {}

    running(main())


def test_a_model_that_is_found_when_it_is_loaded_is_followed(running: Any) -> None:
    async def main() -> None:
        replica = Replica(FakeRegistry(champion="1"), {})
        replica.world.disk.append(replace(replica.model, name="later"))
        await replica.loads.load("later")
        replica.registry.aliases["champion"] = "2"
        await asyncio.sleep(20)
        assert replica.world.repository.get("later").version == "2"

    running(main())


def test_a_load_that_fails_says_why_and_follows_nothing(running: Any) -> None:
    async def main() -> None:
        replica = unloaded(FakeRegistry(champion="1"))
        replica.world.executor.broken = {"1"}
        with pytest.raises(LoadFailed, match="version 1: it never loads"):
            await replica.loads.load("m")
        replica.registry.is_down = True
        with pytest.raises(LoadFailed, match="it is down"):
            await replica.loads.load("m")
        replica.registry.aliases["champion"] = "2"
        replica.registry.is_down = False
        await asyncio.sleep(100)
        assert State.READY not in replica.listed.values()
        await replica.loads.load("m")
        assert replica.world.repository.get("m").version == "2"

    running(main())


def test_a_load_tries_a_version_again_that_did_not_load(running: Any) -> None:
    async def main() -> None:
        replica = await Replica(FakeRegistry(champion="1"), {}).start()
        replica.world.executor.broken = {"2"}
        replica.registry.aliases["champion"] = "2"
        await asyncio.sleep(100)
        with pytest.raises(LoadFailed, match="version 2: it never loads"):
            await replica.loads.load("m")
        assert replica.world.repository.get("m").version == "1"
        replica.world.executor.broken = set()
        await replica.loads.load("m")
        assert replica.world.repository.get("m").version == "2"

    running(main())


def test_a_load_takes_over_what_the_description_says_now(running: Any) -> None:
    async def main() -> None:
        replica = await Replica(FakeRegistry(champion="1", challenger="2"), {}).start()
        replica.world.disk = [replace(replica.model, follow={"canary": CANARY})]
        await replica.loads.load("m")
        await asyncio.sleep(1)
        assert replica.follower.traffic["m"].percent == 50
        assert replica.world.executor.tried["m"] == 2

    running(main())


def test_a_model_whose_description_does_not_follow_any_more_is_loaded_as_it_says(
    running: Any,
) -> None:
    async def main() -> None:
        replica = await Replica(FakeRegistry(champion="1"), {}).start()
        replica.world.disk = [replace(replica.model, uri="/models/m", follow=None)]
        await replica.loads.load("m")
        assert replica.listed == {None: State.READY}
        assert not replica.follower.follows("m")

    running(main())


def test_a_model_whose_description_follows_from_now_on_answers_all_the_time(running: Any) -> None:
    async def main() -> None:
        replica = Replica(FakeRegistry(champion="1"), {})
        replica.follower.add_unloaded()
        replica.world.disk = [replace(replica.model, uri="/models/m", follow=None)]
        await replica.loads.load("m")
        replica.world.disk = [replica.model]
        await replica.loads.load("m")
        assert replica.world.repository.get("m").version == "1"
        await asyncio.sleep(100)
        assert replica.listed == {"1": State.READY}

    running(main())


def test_what_cannot_be_followed_is_refused_with_its_reason(running: Any) -> None:
    async def main() -> None:
        replica = unloaded(FakeRegistry(champion="1"))
        replica.world.disk = [replace(replica.model, uri="models:/m/7")]
        with pytest.raises(InvalidModel, match="cannot be followed"):
            await replica.loads.load("m")
        with pytest.raises(NotFound):
            await replica.loads.unload("other")

    running(main())


def test_two_loads_at_the_same_time_are_a_conflict(running: Any) -> None:
    async def main() -> None:
        replica = unloaded(FakeRegistry(champion="1"))
        first = asyncio.create_task(replica.loads.load("m"))
        await asyncio.sleep(0)
        with pytest.raises(Conflict):
            await replica.loads.load("m")
        await first

    running(main())


def test_callers_that_repeat_a_load_get_one_and_may_unload_while_a_canary_loads(
    running: Any,
) -> None:
    async def main() -> None:
        registry = FakeRegistry(champion="1", challenger="2")
        replica = unloaded(registry, {"canary": CANARY})
        replica.world.executor.held["2"] = asyncio.Event()
        loads = RepeatedLoads(replica.world.repository, replica.loads)
        await asyncio.gather(loads.load("m"), loads.load("m"))
        await loads.load("m")
        assert replica.world.executor.tried["m"] == 1
        await loads.unload("m")
        assert State.READY not in replica.listed.values()

    running(main())
