"""Streams of a pool: where they run, and what becomes of a worker that does not end one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headrace.errors import DeadlineExceeded
from headrace.executors.executor import STOP_GRACE, WorkerLost
from headrace.worker.frames import Kind
from support.fake_workers import World, pid, request, soon, turns


def test_a_stream_comes_from_a_worker_that_holds_its_model(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("other")
        await world.load("m")
        world.answers["m"] = "hangs"
        pieces = world.pool.stream("m", request(), soon())
        first = asyncio.create_task(anext(pieces))
        await turns()
        ((worker, _),) = world.calls(Kind.STREAM)
        piece = {"tensors": [], "parameters": {"pid": worker}}
        world.workers[1].send(2, piece, Kind.PIECE)

        assert pid(await first) == worker == 2
        await pieces.aclose()
        assert world.calls(Kind.WITHDRAW) == [(2, 2)]

    world_of(test, size=2)


def test_a_worker_whose_stream_hangs_is_ended_a_grace_after_the_deadline(
    world_of: Any,
) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        world.answers["m"] = "hangs"
        deadline = soon(5)
        with pytest.raises(DeadlineExceeded):
            await anext(world.pool.stream("m", request(), deadline))
        neighbour = world.begin("m", 1000)
        assert not world.workers[0].was_killed
        with pytest.raises(WorkerLost) as lost:
            await neighbour

        assert lost.value.blameless
        assert str(lost.value) == "a stream of model 'm' that nobody reads overran its deadline"
        assert world.workers[0].was_killed
        assert asyncio.get_running_loop().time() == deadline + STOP_GRACE

    world_of(test)


@pytest.mark.parametrize("left_after", [1, 70])
def test_a_stream_has_until_its_deadline_and_the_grace_to_end_whenever_it_is_left(
    left_after: float, world_of: Any
) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        world.answers["m"] = "hangs"
        began = asyncio.get_running_loop().time()
        pieces = world.pool.stream("m", request(), began + 50)
        first = asyncio.create_task(anext(pieces))
        await turns()
        world.workers[0].send(2, {"tensors": [], "parameters": {}}, Kind.PIECE)
        await first
        loop = asyncio.get_running_loop()
        leaving = loop.call_at(began + left_after, lambda: loop.create_task(pieces.aclose()))
        await world.workers[0].exited.wait()

        assert loop.time() == began + 50 + STOP_GRACE
        leaving.cancel()
        await pieces.aclose()

    world_of(test)


def test_a_worker_that_ends_its_stream_within_the_grace_is_left_alone(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.load("m")
        world.answers["m"] = "hangs"
        with pytest.raises(DeadlineExceeded):
            await anext(world.pool.stream("m", request(), soon(5)))
        await asyncio.sleep(STOP_GRACE - 1)
        world.workers[0].send(2, {})
        await asyncio.sleep(10 * STOP_GRACE)

        assert not world.workers[0].was_killed

    world_of(test)
