"""The rollout of a followed model: what is loaded, remembered and shared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import Conflict, InvalidModel, NotFound
from headrace.rollouts.record import TAG, Outcome, decoded, encoded
from headrace.serving.served_model import State
from headrace.sources import artifacts
from support.replica import FakeRegistry, Replica

CANARY = {"alias": "@challenger", "percent": 50}
STEPS = {"alias": "@challenger", "steps": [10, 50, 100], "bake": 600}


def outcome(registry: FakeRegistry) -> Outcome | None:
    """What the tag of the registry says was decided."""
    record = decoded(registry.tags.get(TAG, ""))
    return None if record is None else record.outcome


async def true(condition: Callable[[], bool]) -> None:
    """Wait for what a thread does, for which virtual time is too fast."""
    while not condition():
        await asyncio.sleep(1)


def test_a_canary_is_loaded_beside_the_stable_version_and_gets_its_part(running: Any) -> None:
    async def main() -> None:
        replica = await Replica(
            FakeRegistry(champion="1", challenger="2"), {"canary": CANARY}
        ).start()
        assert replica.roles == ("1", "2", 50)
        assert replica.world.repository.get("m").version == "1"
        assert "canary: 50 %" in replica.world.repository.get("m", "2").reason

    running(main())


@pytest.mark.parametrize("next_canary", ["3", None])
def test_a_version_that_is_no_canary_any_more_is_not_called_one(
    running: Any, next_canary: str | None
) -> None:
    async def main() -> None:
        registry = FakeRegistry(champion="1", challenger="2")
        replica = await Replica(registry, {"canary": CANARY}).start()
        del registry.aliases["challenger"]
        if next_canary is not None:
            registry.aliases["challenger"] = next_canary
        await asyncio.sleep(20)
        assert replica.roles[1] == next_canary
        assert replica.world.repository.get("m", "2").reason == ""

    running(main())


def test_a_canary_ends_before_the_next_one_is_loaded(running: Any) -> None:
    async def main() -> None:
        registry = FakeRegistry(champion="1", challenger="2")
        replica = await Replica(registry, {"canary": CANARY}).start()
        replica.world.executor.may_load.clear()
        registry.aliases["challenger"] = "3"
        await asyncio.sleep(20)
        assert replica.listed["3"] is State.LOADING
        assert replica.roles == ("1", None, 0)
        with pytest.raises(Conflict, match="has no canary that gets requests"):
            replica.follower.promote("m", "")
        replica.world.executor.may_load.set()
        await asyncio.sleep(20)
        assert replica.roles == ("1", "3", 50)

    running(main())


def test_a_move_does_not_wait_for_a_canary_that_loads(running: Any) -> None:
    async def main() -> None:
        registry = FakeRegistry(champion="1", challenger="2")
        replica = Replica(registry, {"canary": CANARY})
        held = replica.world.executor.held["2"] = asyncio.Event()
        await replica.start()
        registry.aliases["champion"] = "3"
        await asyncio.sleep(20)
        assert replica.roles == ("3", None, 0)
        assert replica.listed["2"] is State.LOADING
        held.set()
        await asyncio.sleep(20)
        assert replica.roles == ("3", "2", 50)

    running(main())


def test_a_canary_that_becomes_the_stable_version_while_it_loads_is_loaded_once(
    running: Any,
) -> None:
    async def main() -> None:
        registry = FakeRegistry(champion="1", challenger="2")
        replica = Replica(registry, {"canary": CANARY})
        held = replica.world.executor.held["2"] = asyncio.Event()
        await replica.start()
        registry.aliases = {"champion": "2"}
        await asyncio.sleep(20)
        held.set()
        await asyncio.sleep(20)
        assert replica.roles == ("2", None, 0)
        assert replica.world.executor.tried["m"] == 2

    running(main())


def test_a_canary_that_is_not_wanted_any_more_is_not_loaded_to_the_end(running: Any) -> None:
    async def main() -> None:
        registry = FakeRegistry(champion="1", challenger="2")
        replica = Replica(registry, {"canary": CANARY})
        replica.world.executor.held["2"] = asyncio.Event()
        await replica.start()
        registry.aliases["challenger"] = "3"
        await asyncio.sleep(20)
        assert replica.roles == ("1", "3", 50)
        assert replica.listed == {"1": State.READY, "3": State.READY}

    running(main())


def test_the_steps_go_on_with_the_clock_until_the_canary_is_promoted(running: Any) -> None:
    async def main() -> None:
        replica = await Replica(
            FakeRegistry(champion="1", challenger="2"), {"canary": STEPS}
        ).start()
        seen = [replica.roles]
        for _ in range(3):
            await asyncio.sleep(620)
            seen.append(replica.roles)
        assert seen == [("1", "2", 10), ("1", "2", 50), ("1", "2", 100), ("2", None, 0)]
        await asyncio.sleep(100)
        assert replica.listed == {"2": State.READY}
        replica.registry.aliases["champion"] = "3"
        await asyncio.sleep(100)
        assert replica.roles == ("3", None, 0)

    running(main())


def test_a_canary_that_breaks_a_rule_is_held_back_with_its_reason(running: Any) -> None:
    async def main() -> None:
        replica = await Replica(
            FakeRegistry(champion="1", challenger="2"), {"canary": CANARY}
        ).start()
        replica.breach()
        assert replica.roles == ("1", None, 0)
        for wait in (1, 100, 10_000):
            await asyncio.sleep(wait)
            assert replica.roles == ("1", None, 0)
            assert "rolled back: 100 of 100" in replica.world.repository.get("m", "2").reason
        assert replica.listed == {"1": State.READY, "2": State.UNAVAILABLE}
        replica.registry.aliases["challenger"] = "4"
        await asyncio.sleep(100)
        assert replica.roles == ("1", "4", 50)
        assert replica.listed == {"1": State.READY, "4": State.READY}

    running(main())


def test_a_restart_goes_on_where_the_rollout_was(running: Any, tmp_path: Path) -> None:
    registry = FakeRegistry(champion="1", challenger="2")

    async def begin() -> None:
        replica = await Replica(registry, {"canary": STEPS}).start()
        await asyncio.sleep(640)
        assert replica.roles == ("1", "2", 50)
        await true(lambda: list(tmp_path.glob("rollouts/m-*.json")))
        await replica.follower.close()

    async def go_on() -> None:
        await asyncio.sleep(650)
        replica = await Replica(registry, {"canary": STEPS}).start()
        assert replica.roles == ("1", "2", 50)
        replica.breach()
        (kept,) = tmp_path.glob("rollouts/m-*.json")
        await true(lambda: "rolled_back" in kept.read_text())
        await replica.follower.close()
        again = await Replica(registry, {"canary": STEPS}).start()
        assert again.roles == ("1", None, 0)

    running(begin())
    running(go_on())


@pytest.mark.parametrize("shared", [True, False])
def test_replicas_learn_of_a_rollback_through_the_tag_if_they_may(
    running: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared: bool
) -> None:
    registry = FakeRegistry(champion="1", challenger="2")

    async def main() -> None:
        replicas = []
        for home in ("a", "b"):
            monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / home))
            replica = Replica(registry, {"canary": CANARY}, follow_tags=shared)
            replicas.append(await replica.start())
        first, second = replicas
        first.breach()
        if shared:
            await true(lambda: "rolled_back" in registry.tags.get(TAG, ""))
        await asyncio.sleep(60)
        assert first.roles == ("1", None, 0)
        if shared:
            await true(lambda: second.roles == ("1", None, 0))
        else:
            assert second.roles == ("1", "2", 50)
        assert (TAG in registry.tags) is shared
        if shared:
            # The second one may have written that its canary began, and is then corrected.
            await true(lambda: outcome(registry) is Outcome.ROLLED_BACK)
            assert second.traffic.rollbacks == 1

    running(main())


def test_a_rollback_that_the_registry_could_not_be_told_is_told_later(running: Any) -> None:
    async def main() -> None:
        registry = FakeRegistry(champion="1", challenger="2")
        replica = await Replica(registry, {"canary": CANARY}, follow_tags=True).start()
        await true(lambda: TAG in registry.tags)
        registry.is_down = True
        replica.breach()
        await asyncio.sleep(60)
        assert "rolled_back" not in registry.tags[TAG]
        registry.is_down = False
        await true(lambda: "rolled_back" in registry.tags[TAG])

    running(main())


def test_a_canary_can_be_promoted_and_rolled_back_after_that(running: Any) -> None:
    async def main() -> None:
        replica = await Replica(
            FakeRegistry(champion="1", challenger="2"), {"canary": CANARY}
        ).start()
        replica.follower.promote("m", "it is good")
        await asyncio.sleep(100)
        assert replica.roles == ("2", None, 0)
        assert replica.listed == {"2": State.READY}
        state = replica.follower.rollout("m")["rollout"]
        assert (state["outcome"], state["reason"]) == ("promoted", "it is good")
        replica.follower.roll_back("m", "it is not")
        await asyncio.sleep(100)
        assert replica.roles == ("1", None, 0)

    running(main())


def test_a_promotion_is_rolled_back_while_the_registry_is_down(running: Any) -> None:
    async def main() -> None:
        registry = FakeRegistry(champion="1", challenger="2")
        replica = await Replica(registry, {"canary": CANARY, "keep": 600}).start()
        replica.follower.promote("m", "it is good")
        await asyncio.sleep(100)
        registry.is_down = True
        await asyncio.sleep(100)
        replica.follower.roll_back("m", "it is not")
        await asyncio.sleep(100)
        assert replica.roles == ("1", None, 0)
        assert "may be stale" in replica.world.repository.get("m").reason
        await asyncio.sleep(1000)
        assert replica.listed == {"1": State.READY, "2": State.READY}

    running(main())


def test_a_canary_goes_no_further_while_the_registry_is_down(running: Any) -> None:
    async def main() -> None:
        registry = FakeRegistry(champion="1", challenger="2")
        replica = await Replica(registry, {"canary": STEPS}).start()
        registry.is_down = True
        await asyncio.sleep(10_000)
        assert replica.roles == ("1", "2", 10)

    running(main())


def test_of_the_records_that_wait_to_be_kept_only_the_latest_is(running: Any) -> None:
    class Slow(FakeRegistry):
        written: list[str] = []
        answers = asyncio.Event()

        async def tag(self, name: str, key: str, value: str) -> None:
            record = decoded(value)
            assert record is not None
            self.written.append(record.reason)
            await self.answers.wait()

    async def main() -> None:
        registry = Slow(champion="1", challenger="2")
        replica = await Replica(registry, {"canary": CANARY}, follow_tags=True).start()
        await true(lambda: registry.written == [""])
        for number in range(100):
            replica.follower.hold("m", str(number))
        registry.answers.set()
        await true(lambda: len(registry.written) > 1)
        assert registry.written[1] == "99"

    running(main())


def test_a_canary_that_is_held_keeps_its_part(running: Any) -> None:
    async def main() -> None:
        replica = await Replica(
            FakeRegistry(champion="1", challenger="2"), {"canary": STEPS}
        ).start()
        replica.follower.hold("m", "")
        await asyncio.sleep(10_000)
        assert replica.roles == ("1", "2", 10)

    running(main())


def test_what_has_no_canary_cannot_be_decided_about(running: Any) -> None:
    async def main() -> None:
        replica = await Replica(FakeRegistry(champion="1"), {"canary": CANARY}).start()
        follower = replica.follower
        for decide in (follower.promote, follower.hold, follower.roll_back):
            with pytest.raises(Conflict, match="has no canary"):
                decide("m", "")
            with pytest.raises(NotFound, match="'other' is not followed"):
                decide("other", "")

    running(main())


def test_a_record_that_cannot_be_kept_is_no_failure(
    running: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: Any
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")

    async def main() -> None:
        replica = await Replica(
            FakeRegistry(champion="1", challenger="2"), {"canary": CANARY}
        ).start()
        await true(lambda: "cannot be kept for a restart" in caplog.text)
        assert replica.roles == ("1", "2", 50)

    running(main())


def test_a_decision_counts_though_the_clock_of_the_one_before_was_ahead(running: Any) -> None:
    async def main() -> None:
        registry = FakeRegistry(champion="1", challenger="2")
        replica = await Replica(registry, {"canary": CANARY}, follow_tags=True).start()
        await true(lambda: TAG in registry.tags)
        ahead = decoded(registry.tags[TAG])
        assert ahead is not None
        registry.tags[TAG] = encoded(ahead.decided(Outcome.HELD, 2e9, percent=20))
        await asyncio.sleep(60)
        assert replica.roles == ("1", "2", 20)
        replica.follower.roll_back("m", "it is bad")
        await true(lambda: "rolled_back" in registry.tags[TAG])
        await asyncio.sleep(60)
        assert replica.roles == ("1", None, 0)

    running(main())


def test_the_state_says_why_there_is_no_canary(
    running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def missing(*_: Any) -> artifacts.Fetched:
        raise InvalidModel("there is no such file")

    async def main() -> None:
        registry = FakeRegistry(champion="1")
        replica = await Replica(registry, {"canary": CANARY}).start()

        def why() -> str:
            found = replica.follower.rollout("m")["no_canary"]
            return found or ""

        assert why() == "registered model 'm' has no @challenger"
        registry.aliases["challenger"] = "1"
        await asyncio.sleep(60)
        assert why() == "@challenger is version 1, which is the stable one"
        registry.aliases["challenger"] = "2"
        await asyncio.sleep(60)
        assert why() == ""
        replica.follower.roll_back("m", "it is bad")
        expected = "version 2 gets no requests until @challenger moves: rolled back: it is bad"
        assert why() == expected
        monkeypatch.setattr(artifacts, "fetch", missing)
        registry.aliases["challenger"] = "3"
        await asyncio.sleep(60)
        assert "there is no such file" in why()

    running(main())


def test_the_state_says_which_version_is_loaded_to_take_the_stable_ones_place(running: Any) -> None:
    async def main() -> None:
        registry = FakeRegistry(champion="1", challenger="2")
        replica = await Replica(registry, {"canary": CANARY, "keep": 0}).start()
        replica.follower.promote("m", "")
        await asyncio.sleep(100)
        replica.follower.roll_back("m", "it is bad")
        state = replica.follower.rollout("m")
        assert (state["stable"], state["moves_to"]) == ({"version": "2"}, "1")
        await asyncio.sleep(100)
        state = replica.follower.rollout("m")
        assert (state["stable"], state["moves_to"]) == ({"version": "1"}, None)

    running(main())


def test_another_registry_with_a_model_of_that_name_has_a_record_of_its_own(
    running: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def has_records(count: int) -> bool:
        return len(list(tmp_path.glob("rollouts/m-*.json"))) == count

    async def main() -> None:
        for count, place in enumerate(("http://one", "http://two"), start=1):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
            replica = await Replica(
                FakeRegistry(champion="1", challenger="2"), {"canary": STEPS}
            ).start()
            assert replica.roles == ("1", "2", 10)
            await asyncio.sleep(640)
            assert replica.roles == ("1", "2", 50)
            await true(partial(has_records, count))
            await replica.follower.close()

    running(main())
