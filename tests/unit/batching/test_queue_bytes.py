"""How many bytes may wait: of requests as they arrived, those of streams included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from headrace.batching.batcher import Batcher
from headrace.batching.limits import BatchLimits
from headrace.errors import Overloaded
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Tensor

FAR = 1e9
LIMITS = BatchLimits(max_queue_bytes=1000)


class Model:
    """Answers with nothing, one request at a time, once the gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def __call__(self, request: InferenceRequest, deadline: float) -> InferenceResponse:
        await self.gate.wait()
        return InferenceResponse([])


def request() -> InferenceRequest:
    return InferenceRequest([Tensor("x", "FP64", [1, 1], bytes(8))])


def run(test: Callable[[Model], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(Model()), 10)

    asyncio.run(main())


def test_a_request_counts_as_it_arrived_if_its_tensors_are_smaller() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, LIMITS)
        running = batcher.submit(request(), FAR)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting = batcher.submit(request(), FAR, received=1000)
        with pytest.raises(Overloaded, match="--max-queue-bytes"):
            batcher.submit(request(), FAR)
        model.gate.set()
        await asyncio.gather(running, waiting)

        await batcher.submit(request(), FAR)

    run(test)


def test_requests_that_are_held_leave_less_room_for_those_that_wait() -> None:
    async def test(model: Model) -> None:
        model.gate.set()
        batcher = Batcher(model, LIMITS)
        held = batcher.hold(request(), 1000)
        with pytest.raises(Overloaded, match="--max-queue-bytes"):
            batcher.submit(request(), FAR)
        with pytest.raises(Overloaded, match="--max-queue-bytes"):
            batcher.hold(request(), 0)
        batcher.let_go(held)

        await batcher.submit(request(), FAR)

    run(test)


def test_a_request_that_is_alone_may_be_larger_than_the_bound() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, LIMITS)

        batcher.let_go(batcher.hold(request(), 2000))

    run(test)
