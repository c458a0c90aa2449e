"""How a pool spreads models and requests over its workers, in virtual time, without processes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headrace.errors import DeadlineExceeded, LoadFailed, ModelNotReady
from headrace.executors import worker_slot
from headrace.executors.executor import WorkerLost
from headrace.executors.pool import BATCHES_PER_INSTANCE, WorkerPool
from headrace.executors.process import Environment
from headrace.worker.frames import Kind
from support.fake_workers import LOAD, LOAD_TIMEOUT, World, pid, request, soon, turns

BROKEN = LoadFailed("no route to host")


def test_a_model_is_loaded_on_as_many_workers_as_it_has_instances(world_of: Any) -> None:
    async def test(world: World) -> None:
        assert (await world.load("m", instances=2)).platform == "fake"

        assert world.calls(Kind.LOAD) == [(1, "m"), (2, "m")]
        assert world.pool.slots("m") == 2 * BATCHES_PER_INSTANCE
        assert world.pool.pids == [1, 2]

    world_of(test, size=3)


def test_the_emptiest_worker_gets_the_next_model(world_of: Any) -> None:
    async def test(world: World) -> None:
        for key in "abcd":
            await world.load(key)
        await world.pool.unload("b")
        await world.load("e")

        assert [key for _, key in world.calls(Kind.LOAD) if _ == 2] == ["b", "d", "e"]

    world_of(test, size=2)


def test_more_instances_than_workers_are_one_on_each(
    world_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(world: World) -> None:
        await world.load("m", instances=5)

        assert world.pool.slots("m") == 2 * BATCHES_PER_INSTANCE

    world_of(test, size=2)

    assert "5 instances" in caplog.text


def test_an_instance_that_fails_leaves_none_of_the_others_behind(world_of: Any) -> None:
    async def test(world: World) -> None:
        world.loads["m"] = [LOAD, BROKEN]
        with pytest.raises(LoadFailed, match="no route to host"):
            await world.load("m", instances=2)

        assert sorted(world.calls(Kind.UNLOAD)) == [(1, "m"), (2, "m")]
        assert world.pool.slots("m") == 0
        assert not world.pool.is_up("m")

    world_of(test, size=2)


def test_a_load_that_is_given_up_is_dropped_by_its_worker_when_it_ends(world_of: Any) -> None:
    async def test(world: World) -> None:
        world.loads["m"] = ["hangs"]
        load = asyncio.create_task(world.load("m"))
        await turns()
        load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load

        assert world.calls(Kind.UNLOAD) == [(1, "m")]
        assert (await world.load("other")).platform == "fake"

    world_of(test)


def test_a_batch_goes_to_the_least_busy_of_the_workers_that_hold_its_model(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m", instances=2)
        await world.load("other", instances=1)
        world.answers["m"] = "hangs"
        for _ in range(4):
            world.begin("m")
        await turns()

        assert [worker for worker, _ in world.calls(Kind.INFER)] == [1, 1, 2, 2]
        assert await world.pid("other") == 3

    world_of(test, size=3)


def test_a_worker_that_is_about_to_end_gets_no_batch_while_another_lives(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m", instances=2)
        # Its end is noticed later.
        world.workers[0].channel.lose(WorkerLost("it was ended"))

        assert world.pool.is_up("m")
        assert [await world.pid("m") for _ in range(2)] == [2, 2]

    world_of(test, size=2)


def test_whoever_asks_while_a_worker_is_away_is_answered_by_the_next(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        world.workers[0].end()
        assert not world.pool.is_up("m")
        assert "worker" in world.pool.trouble("m")

        assert await asyncio.gather(*(world.pid("m") for _ in range(3))) == [2, 2, 2]
        assert world.pool.restarts == 1

    world_of(test)


def test_whoever_waits_for_a_worker_waits_no_longer_than_the_deadline(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        world.loads["m"] = ["hangs"]
        world.workers[0].end()
        patient, hasty = world.begin("m", LOAD_TIMEOUT * 3), world.begin("m", 5)
        with pytest.raises(DeadlineExceeded, match="no worker"):
            await hasty

        assert not patient.done()
        assert pid(await patient) == 3

    world_of(test)


def test_a_model_that_keeps_failing_refuses_requests_with_its_reason(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        world.loads["m"] = [BROKEN] * 3
        world.workers[0].end()
        waiting = world.begin("m")
        for asked in (waiting, world.begin("m")):
            with pytest.raises(ModelNotReady, match="no route to host"):
                await asked

        assert "no route to host" in world.pool.trouble("m")
        await asyncio.sleep(30)
        assert await world.pid("m") == 2

    world_of(test)


def test_nobody_is_refused_while_one_instance_may_still_come_back(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m", instances=2)
        world.loads["m"] = [BROKEN, "hangs", BROKEN, BROKEN, BROKEN]
        for worker in tuple(world.workers):
            worker.end()
        while not any(slot.refusal("m") for slot in world.pool._slots):
            await turns()
        waiting = world.begin("m", LOAD_TIMEOUT)
        await turns()

        assert not waiting.done()
        assert pid(await waiting) > 2

    world_of(test, size=2)


def test_a_model_that_is_not_loaded_is_not_waited_for(world_of: Any) -> None:
    async def test(world: World) -> None:
        for ask in (world.pool.infer, world.pool.infer_alone):
            with pytest.raises(ModelNotReady):
                await ask("m", request(), soon())

    world_of(test)


def test_a_model_that_is_unloaded_while_its_worker_is_away_keeps_nobody_waiting(
    world_of: Any,
) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        world.loads["m"] = [BROKEN] * 2
        world.workers[0].end()
        await turns()
        await world.pool.unload("m")
        with pytest.raises(ModelNotReady):
            await world.begin("m")

    world_of(test)


def test_a_request_that_was_begun_gets_its_answer_and_its_worker_is_left_alone(
    world_of: Any,
) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        outcomes: list[Any] = []
        assert world.pool.begin("m", request(), soon(5), outcomes.append)
        await asyncio.sleep(10)

        assert [pid(each) for each in outcomes] == [1]
        assert not world.workers[0].was_killed

    world_of(test)


def test_nothing_is_begun_without_a_worker(world_of: Any) -> None:
    async def test(world: World) -> None:
        assert not world.pool.begin("m", request(), soon(5), lambda outcome: None)

    world_of(test)


def test_a_worker_that_answers_in_time_is_left_alone_afterwards(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        await world.begin("m", 5)
        await asyncio.sleep(10)

        assert not world.workers[0].was_killed

    world_of(test)


def test_a_batch_that_is_asked_alone_has_a_worker_for_itself_which_ends_with_it(
    world_of: Any,
) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        alone = await world.pool.infer_alone("m", request(), soon())

        assert pid(alone) == 2
        assert world.workers[1].received == [(Kind.LOAD, "m"), (Kind.INFER, "m")]
        assert [worker.was_killed for worker in world.workers] == [False, True]

    world_of(test)


def test_only_one_batch_is_asked_alone_at_a_time(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        world.answers["m"] = "hangs"
        asked = [
            asyncio.create_task(world.pool.infer_alone("m", request(), soon(5))) for _ in range(2)
        ]
        await turns()
        assert len(world.workers) == 2
        outcomes = await asyncio.gather(*asked, return_exceptions=True)

        assert [type(outcome) for outcome in outcomes] == [DeadlineExceeded] * 2
        assert all(worker.was_killed for worker in world.workers[1:])

    world_of(test)


def test_a_batch_alone_whose_load_hangs_ends_at_its_deadline(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        world.loads["m"] = ["hangs"]
        with pytest.raises(DeadlineExceeded):
            await world.pool.infer_alone("m", request(), soon(5))

        assert [worker.was_killed for worker in world.workers] == [False, True]

    world_of(test)


@pytest.mark.parametrize(("outcome", "deaths"), [("dies", 2), ("hangs", 1)])
def test_a_model_that_ends_its_worker_is_tried_alone_until_it_loads_there(
    outcome: str,
    deaths: int,
    world_of: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(worker_slot, "DEATHS_BEFORE_TRIAL", 1)

    async def test(world: World) -> None:
        await world.load("lethal")
        await world.load("neighbour")
        world.loads["lethal"] = ["dies", outcome, LOAD]
        world.workers[0].end()
        while not world.pool.is_up("lethal"):
            await asyncio.sleep(1)
        alone = [worker for worker in world.workers[2:] if worker.pid not in world.pool.pids]

        assert [worker.received for worker in alone] == [[(Kind.LOAD, "lethal")]] * 2
        assert all(worker.exited.is_set() for worker in alone)
        assert world.pool.restarts == 2
        assert await world.pid("neighbour") == await world.pid("lethal")

    world_of(test)

    assert caplog.text.count("exited with status 3 while") == deaths


def test_a_batch_is_withdrawn_from_the_worker_that_has_it_though_another_is_away(
    world_of: Any,
) -> None:
    async def test(world: World) -> None:
        await world.load("m", instances=2)
        world.answers["m"] = "hangs"
        left = request()
        for asked in (request(), left):
            asyncio.create_task(world.pool.infer("m", asked, soon()))
        await turns()
        world.workers[0].end()
        world.pool.withdraw(left)

        assert world.calls(Kind.WITHDRAW) == [(2, 2)]

    world_of(test, size=2)


def test_every_live_worker_is_asked_what_it_measures(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m", instances=2)

        assert await world.pool.measured(1) == [[1], [2]]
        assert await WorkerPool(Environment("python"), 2, LOAD_TIMEOUT).measured(1) == []

    world_of(test, size=2)


def test_models_that_load_at_once_are_spread_and_one_that_failed_takes_no_room(
    world_of: Any,
) -> None:
    async def test(world: World) -> None:
        world.loads["bad"] = [BROKEN]
        with pytest.raises(LoadFailed):
            await world.load("bad")
        await asyncio.gather(*map(world.load, "abcd"))

        assert sorted(pid for pid, key in world.calls(Kind.LOAD) if key != "bad") == [1, 1, 2, 2]

    world_of(test, size=2)
