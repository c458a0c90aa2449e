"""How a slot keeps its worker alive and its models loaded, in virtual time, without processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

from headrace.errors import HeadraceError, LoadFailed
from headrace.executors import retry, worker_slot
from headrace.executors.executor import LoadOverdue, WorkerLost
from headrace.executors.process import Environment, WorkerProcess
from headrace.executors.worker_slot import DEATHS_BEFORE_TRIAL, PATIENT_DEATHS, WorkerSlot
from headrace.protocol.messages import ModelMetadata
from headrace.settings import ModelSettings
from headrace.worker.frames import Kind
from support import virtual_time

LOAD_TIMEOUT = 100.0
# What may come of a load, besides an error that is answered.
WELL, DIES, KILLED, HANGS = "loads well", "dies", "is killed", "hangs"
THEN_DIES = "loads well, then dies"


class FakeProcess:
    """A worker whose models load as the world says. It is its own channel."""

    probe, reacts = WorkerProcess.probe, WorkerProcess.reacts
    end_if_stuck = WorkerProcess.end_if_stuck

    def __init__(self, world: World) -> None:
        self._world = world
        self._probe: asyncio.Future[Any] | None = None
        self._waiting: list[asyncio.Future[Any]] = []
        self.pid = len(world.workers) + 1
        self.channel = self
        self.is_lost = self.was_killed = self.is_stopped = False
        self.ended: WorkerLost | None = None
        self.fate = ""
        self.exited = asyncio.Event()
        self.asked: list[tuple[Kind, str]] = []

    def request(self, kind: Kind, meta: dict[str, Any]) -> asyncio.Future[Any]:
        if self.is_lost:
            raise WorkerLost("the worker process died")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self.asked.append((kind, meta["model"]))
        outcome = self._world.outcome(meta["model"]) if kind is Kind.LOAD else WELL
        if isinstance(outcome, asyncio.Future):
            outcome.add_done_callback(lambda _: answer.set_result(ModelMetadata().to_dict()))
        elif isinstance(outcome, HeadraceError):
            answer.set_exception(outcome)
        elif outcome == THEN_DIES:
            answer.set_result(ModelMetadata().to_dict())
            self.end()
        elif outcome == WELL:
            answer.set_result(ModelMetadata().to_dict())
        elif outcome != HANGS:
            self.end(killed=outcome == KILLED)
        return answer

    def end(self, killed: bool = False) -> None:
        self.kill()
        self.was_killed = killed
        self.fate = "was killed by SIGKILL" if killed else "exited with status 3"

    def kill(self, reason: WorkerLost | None = None) -> None:
        self.is_lost, self.fate, self.was_killed = True, "was killed by SIGKILL", True
        self.ended = self.ended or reason
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(reason or WorkerLost("the worker process died"))
        self.exited.set()

    async def death(self) -> WorkerLost:
        await self.exited.wait()
        message = f"the worker process {self.fate} while loading it"
        blameless = self.ended is not None and self.ended.blameless
        return WorkerLost(message, blameless, self.was_killed)

    async def stop(self, grace: float) -> None:
        self.is_stopped = True
        self.kill()


class World:
    """A slot, the workers that were started for it, and what is to come of each load.

    `outcomes` holds what comes of a model's next loads; afterwards it loads well.
    """

    def __init__(self) -> None:
        self.workers: list[FakeProcess] = []
        self.refusals = 0
        self.outcomes: dict[str, list[Any]] = {}
        self.loads: list[tuple[str, float]] = []
        self.tried_alone: list[str] = []
        self.alone: HeadraceError | None = None
        self.changed = asyncio.Condition()
        self.slot = WorkerSlot(Environment("python"), LOAD_TIMEOUT, self.changed, self._trial)

    async def spawn(self, environment: Environment) -> FakeProcess:
        if self.refusals:
            self.refusals -= 1
            raise OSError("too many processes")
        self.workers.append(FakeProcess(self))
        return self.workers[-1]

    def outcome(self, key: str) -> Any:
        self.loads.append((key, asyncio.get_running_loop().time()))
        left = self.outcomes.get(key)
        return left.pop(0) if left else WELL

    async def _trial(self, key: str, settings: ModelSettings) -> None:
        self.tried_alone.append(key)
        if self.alone is not None:
            raise self.alone

    @property
    def worker(self) -> FakeProcess:
        return self.workers[-1]

    async def load(self, *keys: str) -> None:
        for key in keys:
            await self.slot.load(key, ModelSettings(key, "fake:Fake"))

    async def until(self, state: Callable[[], Any]) -> None:
        """Wait for what the slot tells everybody about."""
        async with self.changed:
            await self.changed.wait_for(state)

    async def until_held(self, *keys: str) -> None:
        await self.until(lambda: all(map(self.slot.holds, keys)))

    async def until_failed(self, key: str, times: int) -> None:
        failed = self.slot.retries.get
        await self.until(lambda: key in self.slot.retries and failed(key).failures >= times)


@pytest.fixture
def world_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(test: Callable[[World], Coroutine[Any, Any, None]]) -> None:
        async def body() -> None:
            world = World()
            monkeypatch.setattr(WorkerProcess, "spawn", world.spawn)
            await test(world)
            await world.slot.stop()

        virtual_time.run(body())

    return run


BROKEN = LoadFailed("no route to host")


def test_a_worker_that_dies_comes_back_with_its_models(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("a", "b")
        world.worker.end()
        assert not world.slot.holds("a")
        await world.until_held("a", "b")

        assert [worker.asked for worker in world.workers] == [
            [(Kind.LOAD, "a"), (Kind.LOAD, "b")]
        ] * 2
        assert world.slot.restarts == 1

    world_of(test)


def test_a_load_that_fails_is_tried_again_at_once_and_then_after_pauses_that_grow(
    world_of: Any,
) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        world.outcomes["m"] = [BROKEN] * 6
        world.worker.end()
        await world.until_failed("m", 6)
        times = [time for _, time in world.loads[1:]]
        first, *pauses = [after - before for before, after in pairwise(times)]

        assert first == 0
        assert pauses == sorted(pauses)
        assert pauses[0] <= retry.FIRST_PAUSE < pauses[-1] <= retry.LONGEST_PAUSE
        await world.until_held("m")
        assert world.slot.retries == {}

    world_of(test)


def test_a_first_load_that_fails_is_not_tried_again(world_of: Any) -> None:
    async def test(world: World) -> None:
        world.outcomes["m"] = [BROKEN]
        with pytest.raises(LoadFailed, match="no route"):
            await world.load("m")
        world.worker.end()
        await world.load("other")

        assert [key for key, _ in world.loads] == ["m", "other"]
        assert set(world.slot.orders) == world.slot.loaded == {"other"}

    world_of(test)


@pytest.mark.parametrize(
    ("outcome", "fate"),
    [(DIES, "exited with status 3"), (KILLED, "was killed by SIGKILL")],
)
def test_a_first_load_that_ends_its_worker_says_how_that_died(
    outcome: str, fate: str, world_of: Any
) -> None:
    async def test(world: World) -> None:
        world.outcomes["m"] = [outcome]
        with pytest.raises(LoadFailed, match=f"'m'.*{fate}") as caught:
            await world.load("m")

        assert isinstance(caught.value.__cause__, WorkerLost)
        assert caught.value.__cause__.killed is (outcome == KILLED)

    world_of(test)


def test_a_first_load_that_takes_too_long_leaves_the_worker_to_others(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("neighbour")
        world.outcomes["m"] = [HANGS]
        with pytest.raises(LoadOverdue, match="'m'.* 100 s.*--load-timeout"):
            await world.load("m")

        assert world.slot.holds("neighbour")
        assert len(world.workers) == 1

    world_of(test)


def test_models_load_one_after_the_other_until_one_takes_long(world_of: Any) -> None:
    async def test(world: World) -> None:
        slow = asyncio.get_running_loop().create_future()
        world.outcomes["slow"] = [slow]
        loads = [asyncio.create_task(world.load(key)) for key in ("slow", "next")]
        await loads[1]
        (_, began), (_, then) = world.loads

        assert then - began == worker_slot.LONG_LOAD
        assert not loads[0].done()
        slow.set_result(None)
        await loads[0]

    world_of(test)


def test_a_model_that_is_unloaded_during_a_pause_is_not_tried_again(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m", "other")
        world.outcomes["m"] = [BROKEN] * 3
        world.worker.end()
        await world.until_failed("m", 3)
        await world.slot.unload("m")
        await asyncio.sleep(retry.LONGEST_PAUSE)

        assert [key for key, _ in world.loads].count("m") == 4
        assert world.slot.loaded == {"other"}
        assert world.slot.retries == {}

    world_of(test)


def test_a_model_that_is_unloaded_while_it_loads_again_goes_when_it_has(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        loading = asyncio.get_running_loop().create_future()
        world.outcomes["m"] = [loading]
        world.worker.end()
        await world.until(lambda: world.slot.is_up)
        await asyncio.sleep(1)
        await world.slot.unload("m")
        loading.set_result(None)
        await asyncio.sleep(1)

        assert world.worker.asked == [(Kind.LOAD, "m"), (Kind.UNLOAD, "m")]
        assert world.slot.loaded == set()

    world_of(test)


def test_a_model_that_fails_while_it_is_unloaded_is_dropped_by_the_worker(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        world.outcomes["m"] = [HANGS]
        world.worker.end()
        await asyncio.sleep(1)
        await world.slot.unload("m")
        await asyncio.sleep(LOAD_TIMEOUT)

        assert world.worker.asked == [(Kind.LOAD, "m"), (Kind.UNLOAD, "m")]
        assert len(world.workers) == 2
        assert world.slot.retries == {}

    world_of(test)


def test_a_model_that_hangs_while_coming_back_ends_its_worker_and_the_others_return(
    world_of: Any,
) -> None:
    async def test(world: World) -> None:
        await world.load("hangs", "neighbour")
        world.outcomes["hangs"] = [HANGS]
        world.worker.end()
        await world.until_failed("hangs", 1)
        assert " 100 s" in str(world.slot.retries["hangs"])
        await world.until_held("hangs", "neighbour")

        assert [worker.was_killed for worker in world.workers] == [False, True, False]

    world_of(test)


def test_a_model_that_keeps_ending_its_worker_is_tried_alone_before_it_may_end_another(
    world_of: Any,
) -> None:
    async def test(world: World) -> None:
        await world.load("lethal", "neighbour")
        world.outcomes["lethal"] = [DIES] * DEATHS_BEFORE_TRIAL
        world.alone = LoadFailed("it died alone, too")
        world.alone.__cause__ = WorkerLost("it died")
        world.worker.end()
        await world.until_failed("lethal", DEATHS_BEFORE_TRIAL + 2)

        assert world.tried_alone == ["lethal"] * 2
        assert world.slot.restarts == 1 + DEATHS_BEFORE_TRIAL
        assert world.slot.holds("neighbour")
        world.alone = None
        await world.until_held("lethal")

    world_of(test)


def test_a_model_that_has_its_worker_to_itself_is_tried_there(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("lethal")
        world.outcomes["lethal"] = [DIES] * 4
        world.worker.end()
        await world.until_held("lethal")

        assert world.tried_alone == []
        assert world.slot.restarts == 5

    world_of(test)


def test_a_model_that_fails_in_its_own_words_is_not_tried_alone(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m", "neighbour")
        world.outcomes["m"] = [BROKEN] * 5
        world.worker.end()
        await world.until_held("m")

        assert world.tried_alone == []
        assert world.slot.restarts == 1

    world_of(test)


def test_what_failed_to_come_back_comes_last_the_next_time(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("bad", "good")
        world.outcomes["bad"] = [DIES]
        world.worker.end()
        await world.until_failed("bad", 1)
        await world.until_held("bad", "good")

        assert [key for key, _ in world.loads] == ["bad", "good", "bad", "good", "bad"]

    world_of(test)


def test_requests_wait_for_the_first_failure_and_for_a_few_deaths_only(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("dies", "raises")
        world.outcomes["raises"] = [BROKEN] * 2
        world.outcomes["dies"] = [DIES] * PATIENT_DEATHS
        world.alone = LoadFailed("it died alone")
        world.alone.__cause__ = WorkerLost("it died")
        refusals: dict[str, list[bool]] = {"dies": [], "raises": []}
        world.worker.end()
        for key, times in (("raises", 2), ("dies", PATIENT_DEATHS)):
            for failures in range(1, times + 1):
                await world.until_failed(key, failures)
                refusals[key].append(bool(world.slot.refusal(key)))

        assert refusals["raises"] == [False, True]
        assert refusals["dies"] == [False] * (PATIENT_DEATHS - 1) + [True]

    world_of(test)


def test_a_worker_that_cannot_be_started_is_tried_until_it_can(
    world_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(world: World) -> None:
        world.refusals = 5
        await world.load("m")

        assert world.slot.holds("m")

    world_of(test)

    assert caplog.text.count("too many processes") == 5


def test_a_load_that_no_worker_comes_up_for_is_overdue(world_of: Any) -> None:
    async def test(world: World) -> None:
        world.refusals = 1_000_000
        with pytest.raises(LoadOverdue):
            await world.load("m")

    world_of(test)


def pauses_before_workers(world: World) -> list[float]:
    return [after - before for (_, before), (_, after) in pairwise(world.loads)]


@pytest.mark.parametrize(("outcome", "hesitates"), [(DIES, True), (KILLED, False)])
def test_a_worker_hesitates_more_and_more_when_its_models_end_it_but_not_when_it_is_killed(
    outcome: str, hesitates: bool, world_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that only the pauses of the worker are left.
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0)

    async def test(world: World) -> None:
        await world.load("m")
        world.outcomes["m"] = [outcome] * 8
        world.worker.end()
        await world.until_held("m")
        pauses = pauses_before_workers(world)

        assert (max(pauses) > worker_slot.FIRST_PAUSE) is hesitates

    world_of(test)


def test_a_stopped_slot_ends_its_worker_and_starts_no_other(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        await world.slot.stop()
        await asyncio.sleep(1000)

        assert [worker.is_stopped for worker in world.workers] == [True]

    world_of(test)


def test_a_slot_that_is_stopped_while_models_come_back_lets_them_be(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        world.outcomes["m"] = [BROKEN] * 100
        world.worker.end()
        await world.until_failed("m", 2)
        await world.slot.stop()
        tries = len(world.loads)
        await asyncio.sleep(1000)

        assert len(world.loads) == tries

    world_of(test)


def test_a_worker_that_dies_as_it_answers_a_first_load_has_not_loaded(world_of: Any) -> None:
    async def test(world: World) -> None:
        world.outcomes["m"] = [THEN_DIES]
        with pytest.raises(LoadFailed, match="exited with status 3"):
            await world.load("m")

        assert world.slot.loaded == set()

    world_of(test)


def test_a_worker_that_dies_as_it_answers_a_later_load_loads_again(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        world.outcomes["m"] = [THEN_DIES]
        world.worker.end()
        await world.until_held("m")

        assert (Kind.LOAD, "m") in world.worker.asked

    world_of(test)
