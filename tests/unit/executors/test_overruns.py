"""What one model that hangs means for the others in its worker, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from headrace.errors import Cancelled, DeadlineExceeded, LoadFailed
from headrace.executors import worker_slot
from headrace.executors.executor import STOP_GRACE, WorkerLost
from headrace.executors.retiring import REACTION
from headrace.worker.frames import Kind
from support.fake_workers import LOAD, World, pid, request, soon, turns

ANSWER = {"tensors": [], "parameters": {"pid": 1}}


async def overrun(world: World, *neighbours: str) -> None:
    """Load a model that hangs and its neighbours, whose next loads hang, and wait for the end."""
    for key in (*neighbours, "hangs"):
        await world.load(key)
        world.loads[key] = ["hangs"] * 9
    world.loads["hangs"] = ["hangs"]
    world.answers["hangs"] = "hangs"
    with pytest.raises(DeadlineExceeded):
        await world.begin("hangs", 5)
    await turns()


async def overrun_beside_a_request(world: World) -> Awaitable[Any]:
    """Have a model hang while a request to its neighbour runs, and return that request."""
    await world.load("hangs")
    await world.load("neighbour")
    world.answers |= {"hangs": "hangs", "neighbour": "hangs"}
    running = world.begin("neighbour", 1000)
    with pytest.raises(DeadlineExceeded):
        await world.begin("hangs", 5)
    return running


def loaded(world: World, worker: int, place: int) -> None:
    """Let the load of a later worker end well that was asked for at this place."""
    world.workers[worker].send(place, LOAD)


def test_neighbours_of_an_overrun_are_answered_where_they_are_loaded(world_of: Any) -> None:
    async def test(world: World) -> None:
        await overrun(world, "neighbour")

        assert len(world.workers) == 2
        assert await world.pid("neighbour") == 1

    world_of(test)


def test_a_neighbours_request_that_runs_at_an_overrun_is_not_run_again(world_of: Any) -> None:
    async def test(world: World) -> None:
        running = await overrun_beside_a_request(world)
        await asyncio.sleep(100)
        world.workers[0].send(3, ANSWER)

        assert pid(await running) == 1
        asked = [call for call in world.calls(Kind.INFER) if call[1] == "neighbour"]
        assert asked == [(1, "neighbour")]

    world_of(test)


def test_a_worker_goes_when_another_has_loaded_all_and_it_has_answered_all(world_of: Any) -> None:
    async def test(world: World) -> None:
        running = await overrun_beside_a_request(world)
        del world.answers["neighbour"]
        await asyncio.sleep(10)

        assert await world.pid("neighbour") == 2
        assert not world.workers[0].is_stopped
        world.workers[0].send(3, ANSWER)
        await running
        await world.workers[0].exited.wait()
        assert world.workers[0].is_stopped
        assert world.pool.pids == [2]

    world_of(test)


def test_the_model_that_hung_comes_back_first(world_of: Any) -> None:
    async def test(world: World) -> None:
        await overrun(world, "neighbour")
        del world.answers["hangs"]
        waiting = world.begin("hangs")
        loaded(world, 1, 1)

        assert pid(await waiting) == 2
        assert await world.pid("neighbour") == 1

    world_of(test)


def test_a_request_that_waits_behind_the_one_that_hangs_runs_elsewhere(world_of: Any) -> None:
    async def test(world: World) -> None:
        for key in ("hangs", "neighbour"):
            await world.load(key)
        world.answers["hangs"] = "hangs"
        second = world.begin("hangs", 1000)
        with pytest.raises(DeadlineExceeded):
            await world.begin("hangs", 5)
        with pytest.raises(WorkerLost) as lost:
            await second

        assert lost.value.blameless
        assert str(lost.value) == "a request to model 'hangs' overran its deadline"

    world_of(test)


def test_a_model_that_hangs_in_both_workers_disturbs_nobody_else(world_of: Any) -> None:
    async def test(world: World) -> None:
        await overrun(world, "neighbour")
        loaded(world, 1, 1)
        await turns()
        with pytest.raises(DeadlineExceeded):
            await world.begin("hangs", 5)
        await asyncio.sleep(1)

        assert world.workers[1].was_killed
        assert await world.pid("neighbour") == 1
        assert len(world.pool.pids) == 2

    world_of(test)


def test_a_second_model_that_hangs_in_the_old_worker_leaves_it_to_the_rest(world_of: Any) -> None:
    async def test(world: World) -> None:
        await overrun(world, "second", "neighbour")
        world.answers["second"] = "hangs"
        with pytest.raises(DeadlineExceeded):
            await world.begin("second", 5)

        assert await world.pid("neighbour") == 1
        assert not world.pool.is_up("second")

    world_of(test)


def test_a_worker_that_holds_one_model_ends_at_once_when_it_hangs(world_of: Any) -> None:
    async def test(world: World) -> None:
        await overrun(world)

        assert world.workers[0].was_killed

    world_of(test)


def test_a_worker_that_would_not_fit_twice_into_memory_ends_at_once(
    world_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_slot, "has_room_beside", lambda pid: False)

    async def test(world: World) -> None:
        await overrun(world, "neighbour")

        assert world.workers[0].was_killed

    world_of(test)


def test_a_worker_that_is_stuck_as_a_whole_is_ended(world_of: Any) -> None:
    async def test(world: World) -> None:
        for key in ("hangs", "neighbour"):
            await world.load(key)
        world.is_stuck = True
        neighbour = world.begin("neighbour", 1000)
        with pytest.raises(DeadlineExceeded):
            await world.begin("hangs", 5)
        with pytest.raises(WorkerLost) as lost:
            await neighbour

        assert lost.value.blameless
        assert asyncio.get_running_loop().time() == 5 + REACTION

    world_of(test)


@pytest.mark.parametrize("outcome", [LoadFailed("out of memory"), "dies"])
def test_a_replacement_that_fails_beside_the_old_worker_gets_its_place(
    outcome: Any, world_of: Any
) -> None:
    async def test(world: World) -> None:
        for key in ("hangs", "neighbour"):
            await world.load(key)
        world.loads["neighbour"] = [outcome]
        world.answers["hangs"] = "hangs"
        with pytest.raises(DeadlineExceeded):
            await world.begin("hangs", 5)
        await world.workers[0].exited.wait()

        assert await world.pid("neighbour") == len(world.workers)

    world_of(test)


def test_a_load_that_an_overrun_interrupts_is_made_in_the_new_worker(world_of: Any) -> None:
    async def test(world: World) -> None:
        for key in ("hangs", "neighbour"):
            await world.load(key)
        world.answers["hangs"] = "hangs"
        world.loads["late"] = ["hangs"]
        load = asyncio.create_task(world.load("late"))
        await turns()
        with pytest.raises(DeadlineExceeded):
            await world.begin("hangs", 5)
        await asyncio.sleep(10)
        world.workers[0].send(3, LOAD)
        await load

        assert await world.pid("late") == 2

    world_of(test)


def test_nothing_is_left_of_a_pool_that_stops_between_two_workers(world_of: Any) -> None:
    async def test(world: World) -> None:
        await overrun(world, "neighbour")
        await world.pool.stop()

        assert all(worker.exited.is_set() for worker in world.workers)

    world_of(test)


def test_a_worker_with_a_stream_that_hangs_ends_when_it_is_replaced(world_of: Any) -> None:
    async def test(world: World) -> None:
        for key in ("m", "neighbour"):
            await world.load(key)
        world.answers["m"] = "hangs"
        with pytest.raises(DeadlineExceeded):
            await anext(world.pool.stream("m", request(), soon(5)))
        await asyncio.sleep(2 * STOP_GRACE)

        assert world.workers[0].is_stopped
        assert world.pool.pids == [2]

    world_of(test)


def test_an_overrun_of_a_batch_that_was_begun_frees_those_behind_it_and_no_other_models(
    world_of: Any,
) -> None:
    async def test(world: World) -> None:
        for key in ("hangs", "neighbour"):
            await world.load(key)
        world.answers |= {"hangs": "hangs", "neighbour": "hangs"}
        outcomes: list[Any] = []
        assert world.pool.begin("hangs", request(), soon(5), outcomes.append)
        assert world.pool.begin("hangs", request(), soon(500), outcomes.append)
        assert world.pool.begin("neighbour", request(), soon(500), outcomes.append)
        await asyncio.sleep(4)
        assert not outcomes
        await asyncio.sleep(10)
        late, behind = outcomes
        assert isinstance(late, DeadlineExceeded)
        assert isinstance(behind, WorkerLost)
        assert behind.blameless
        for call in (4, 5):
            world.workers[0].send(call, ANSWER)

        assert [pid(each) for each in outcomes[2:]] == [1]

    world_of(test)


def test_requests_that_were_begun_alone_in_a_worker_end_with_it(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("hangs")
        world.answers["hangs"] = "hangs"
        outcomes: list[Any] = []
        assert world.pool.begin("hangs", request(), soon(5), outcomes.append)
        assert world.pool.begin("hangs", request(), soon(50), outcomes.append)
        await asyncio.sleep(6)

        late, lost = outcomes
        assert isinstance(late, DeadlineExceeded)
        assert isinstance(lost, WorkerLost)
        assert lost.blameless

    world_of(test)


async def late(world: World, concurrency: int, hanging: int) -> list[Any]:
    """Begin requests of a model that works on several at once; all but one hang, one runs on."""
    world.loads["many"] = [{**LOAD, "concurrency": concurrency}]
    await world.load("many")
    world.answers["many"] = "hangs"
    outcomes: list[Any] = []
    for _ in range(hanging):
        assert world.pool.begin("many", request(), soon(5), lambda outcome: None)
    assert world.pool.begin("many", request(), soon(500), outcomes.append)
    await asyncio.sleep(6 + STOP_GRACE)
    return outcomes


def test_a_request_that_hangs_among_others_is_withdrawn_and_its_worker_stays(world_of: Any) -> None:
    async def test(world: World) -> None:
        outcomes = await late(world, concurrency=3, hanging=2)

        assert world.calls(Kind.WITHDRAW) == [(1, 2), (1, 3)]
        assert not outcomes
        world.workers[0].send(4, ANSWER)
        assert pid(outcomes[0]) == 1

    world_of(test)


def test_a_worker_is_replaced_when_a_model_hangs_in_all_its_threads(world_of: Any) -> None:
    async def test(world: World) -> None:
        (lost,) = await late(world, concurrency=3, hanging=3)

        assert isinstance(lost, WorkerLost)
        assert lost.blameless
        assert world.workers[0].was_killed

    world_of(test)


def test_a_worker_that_is_stuck_is_replaced_after_one_late_request_of_many_threads(
    world_of: Any,
) -> None:
    async def test(world: World) -> None:
        world.loads["many"] = [{**LOAD, "concurrency": 1000}]
        await world.load("many")
        world.is_stuck = True
        assert world.pool.begin("many", request(), soon(5), lambda outcome: None)
        await asyncio.sleep(6 + STOP_GRACE)

        assert world.workers[0].was_killed

    world_of(test)


def test_requests_that_end_when_they_are_withdrawn_count_for_nothing(world_of: Any) -> None:
    async def test(world: World) -> None:
        world.loads["many"] = [{**LOAD, "concurrency": 2}]
        await world.load("many")
        world.answers["many"] = "hangs"
        # After each of them, the worker is asked whether it reacts.
        for call in range(2, 14, 2):
            assert world.pool.begin("many", request(), soon(5), lambda outcome: None)
            await asyncio.sleep(6)
            world.workers[0].send(call, Cancelled("withdrawn"))
        await asyncio.sleep(STOP_GRACE)

        assert len(world.workers) == 1

    world_of(test)
