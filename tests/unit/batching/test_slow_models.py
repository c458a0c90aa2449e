"""Slow models get one batch at a time, which is as large as it can be."""

from __future__ import annotations

import asyncio

from headrace.batching.batcher import Batcher
from headrace.batching.limits import BatchLimits
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Tensor
from support import virtual_time

FAR = 1e9


def request() -> InferenceRequest:
    return InferenceRequest([Tensor("x", "FP64", [1], bytes(8))])


class Model:
    """Takes as many seconds for each batch, one after the other, and notes their rows."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.sizes: list[int] = []
        self.held = 0
        self.most_held = 0
        self._lock = asyncio.Lock()

    async def __call__(self, request: InferenceRequest, deadline: float) -> InferenceResponse:
        self.held += 1
        self.most_held = max(self.most_held, self.held)
        async with self._lock:
            self.sizes.append(request.inputs[0].shape[0])
            await asyncio.sleep(self.seconds)
        self.held -= 1
        return InferenceResponse(request.inputs)


async def keep_asking(batcher: Batcher, times: int, pause: float = 0.0) -> None:
    """Ask again as soon as each answer comes, or after a pause."""
    for _ in range(times):
        await batcher.submit(request(), FAR)
        await asyncio.sleep(pause)


async def loaded(batcher: Batcher, callers: int, times: int, pause: float = 0.0) -> None:
    async with asyncio.TaskGroup() as asking:
        for _ in range(callers):
            asking.create_task(keep_asking(batcher, times, pause))


def batching(model: Model, most: int = 64) -> Batcher:
    return Batcher(model, BatchLimits(max_batch_size=most), slots=2)


def test_callers_who_ask_again_at_once_end_up_in_one_batch() -> None:
    async def test() -> None:
        model = Model(0.05)
        await loaded(batching(model), callers=8, times=20)

        # As long as the model was not known to be slow, half of them waited for the other half.
        assert model.sizes[-8:] == [8] * 8

    virtual_time.run(test())


def test_callers_who_take_a_moment_to_ask_again_end_up_in_one_batch() -> None:
    async def test() -> None:
        model = Model(0.05)
        await loaded(batching(model), callers=8, times=20, pause=0.0005)

        assert model.sizes[-8:] == [8] * 8

    virtual_time.run(test())


def test_a_slow_model_has_one_batch_at_a_time() -> None:
    async def test() -> None:
        model = Model(0.05)
        batcher = batching(model)
        await loaded(batcher, callers=2, times=8)
        model.most_held = 0

        await loaded(batcher, callers=8, times=8)

        assert model.most_held == 1

    virtual_time.run(test())


def test_a_fast_model_has_its_next_batch_at_hand() -> None:
    async def test() -> None:
        model = Model(0.001)
        await loaded(batching(model, 2), callers=8, times=8)

        assert model.most_held == 2

    virtual_time.run(test())


def test_a_slow_model_that_merges_nothing_has_its_next_request_at_hand() -> None:
    async def test() -> None:
        model = Model(0.05)
        await loaded(batching(model, 1), callers=4, times=8)

        assert model.most_held == 2

    virtual_time.run(test())


def test_a_full_batch_waits_for_nobody() -> None:
    async def test() -> None:
        model = Model(0.05)
        batcher = batching(model, 4)
        began = batcher.now()
        await loaded(batcher, callers=16, times=10)

        # But for some milliseconds before and after there was a queue.
        assert batcher.now() - began <= 0.05 * 16 * 10 / 4 + 0.01

    virtual_time.run(test())


def test_a_batch_that_becomes_full_in_the_pause_waits_no_longer() -> None:
    async def test() -> None:
        model = Model(1.0)
        batcher = batching(model, 4)
        await loaded(batcher, callers=2, times=8)
        first = batcher.submit(request(), FAR)
        await asyncio.sleep(0.5)
        waiting = batcher.submit(request(), FAR)
        await first
        await asyncio.sleep(0.001)
        began = batcher.now()
        await asyncio.gather(waiting, *(batcher.submit(request(), FAR) for _ in range(3)))

        assert model.sizes[-1] == 4
        assert batcher.now() - began < 1.01

    virtual_time.run(test())


def test_one_batch_that_hung_makes_no_long_pauses() -> None:
    async def test() -> None:
        model = Model(0.01)
        batcher = batching(model)
        await loaded(batcher, callers=4, times=8)
        model.seconds = 300.0
        await batcher.submit(request(), FAR)
        model.seconds = 0.01
        began = batcher.now()
        first = batcher.submit(request(), FAR)
        await asyncio.sleep(0.005)
        await asyncio.gather(first, batcher.submit(request(), FAR))

        assert batcher.now() - began < 0.2

    virtual_time.run(test())


def test_a_drain_does_not_wait_for_the_end_of_a_pause() -> None:
    async def test() -> None:
        model = Model(1.0)
        batcher = batching(model)
        await loaded(batcher, callers=2, times=8)
        first = batcher.submit(request(), FAR)
        await asyncio.sleep(0.5)
        second = batcher.submit(request(), FAR)
        await first
        began = batcher.now()
        await batcher.drain()

        assert second.done()
        assert batcher.now() - began < 1.01

    virtual_time.run(test())
