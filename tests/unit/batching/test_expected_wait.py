"""Requests that cannot be answered in time are refused on arrival."""

from __future__ import annotations

import asyncio

import pytest

from headrace.batching.batcher import Batcher
from headrace.batching.limits import BatchLimits
from headrace.batching.pace import ENOUGH, Pace
from headrace.batching.policy import batches_until
from headrace.errors import DeadlineExceeded, Overloaded, WorkerCrashed
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Tensor
from support import virtual_time

BATCH_SECONDS = 0.1
ROWS = 4
CAPACITY = ROWS / BATCH_SECONDS
TIMEOUT = 3.0


def request(group: str = "") -> InferenceRequest:
    return InferenceRequest([Tensor("x", "FP64", [1], bytes(8))], {"group": group})


class Model:
    """Takes a tenth of a second for each batch, one after the other."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self.deaths = 0
        self.seconds = BATCH_SECONDS

    async def __call__(self, request: InferenceRequest, deadline: float) -> InferenceResponse:
        async with self._lock:
            if self.deaths:
                self.deaths -= 1
                await asyncio.sleep(20.0)
                raise WorkerCrashed("the worker died")
            await asyncio.sleep(self.seconds)
        return InferenceResponse(request.inputs)


def batching(model: Model) -> Batcher:
    return Batcher(model, BatchLimits(max_batch_size=ROWS), slots=2)


async def load(batcher: Batcher, rate: float, seconds: float) -> dict[str, int]:
    """Submit requests at a rate, whatever becomes of them; counts the ways in which they ended."""
    ended = {"answered": 0, "late": 0, "refused": 0}

    async def ask() -> None:
        try:
            await batcher.submit(request(), batcher.now() + TIMEOUT)
        except Overloaded:
            ended["refused"] += 1
        except DeadlineExceeded:
            ended["late"] += 1
        else:
            ended["answered"] += 1

    async with asyncio.TaskGroup() as asking:
        for _ in range(round(rate * seconds)):
            asking.create_task(ask())
            await asyncio.sleep(1 / rate)
    return ended


@pytest.mark.parametrize("times", [2, 5, 10])
def test_a_model_with_more_requests_than_it_can_answer_still_answers_as_many_as_it_can(
    times: int,
) -> None:
    async def test() -> None:
        batcher = batching(Model())
        await load(batcher, times * CAPACITY, TIMEOUT)

        ended = await load(batcher, times * CAPACITY, 20)

        assert ended["answered"] >= 0.95 * CAPACITY * 20
        assert ended["late"] == 0

    virtual_time.run(test())


def test_nothing_is_refused_by_a_model_that_keeps_up() -> None:
    async def test() -> None:
        batcher = batching(Model())

        ended = await load(batcher, 0.9 * CAPACITY, 60)

        assert ended["refused"] == ended["late"] == 0

    virtual_time.run(test())


async def flooded(batcher: Batcher) -> list[asyncio.Future[InferenceResponse]]:
    """Fill the queue with requests that have all the time, and let some batches end."""
    futures = [batcher.submit(request(), batcher.now() + 1e6) for _ in range(1000)]
    await asyncio.sleep(1.5 * ENOUGH * BATCH_SECONDS)
    return futures


def test_a_flood_of_requests_leaves_time_for_others_that_it_takes_turns_with() -> None:
    async def test() -> None:
        batcher = batching(Model())
        flood = await flooded(batcher)

        with pytest.raises(Overloaded, match="takes about 2.\\.. s now"):
            batcher.submit(request(), batcher.now() + TIMEOUT)
        await batcher.submit(request("another"), batcher.now() + TIMEOUT)
        assert sum(not future.done() for future in flood) > 900
        await asyncio.gather(*flood)

    virtual_time.run(test())


def test_the_time_in_which_a_worker_is_replaced_does_not_count() -> None:
    async def test() -> None:
        model = Model()
        batcher = batching(model)
        flood = await flooded(batcher)
        model.deaths = 1
        await asyncio.sleep(25)

        wait = batcher.queued / CAPACITY
        late = batcher.submit(request(), batcher.now() + 2 * wait)

        await asyncio.gather(late, *flood)

    virtual_time.run(test())


def test_the_pace_is_unknown_until_enough_batches_have_ended() -> None:
    pace = Pace()
    for number in range(ENOUGH):
        pace.batch_ended(0.0, 2.0 * number, more_wait=True)
    assert pace.interval == 0

    pace.batch_ended(0.0, 2.0 * ENOUGH, more_wait=True)

    assert pace.interval == 2.0


def test_the_pace_leaves_out_the_time_in_which_nothing_waited() -> None:
    pace = Pace()
    for number in range(3 * ENOUGH):
        pace.batch_ended(100.0 * number - 1, 100.0 * number, more_wait=True)
        pace.batch_ended(100.0 * number, 100.0 * number + 1, more_wait=False)

    assert pace.interval == 1.0


def test_the_pace_leaves_out_the_time_in_which_a_batch_was_held_open() -> None:
    pace = Pace()
    for number in range(3 * ENOUGH):
        pace.batch_ended(100.0 * number - 1, 100.0 * number, more_wait=True)

    assert pace.interval == 1.0


def test_a_batch_for_which_nothing_waits_lowers_the_pace_and_never_raises_it() -> None:
    pace = Pace()
    for number in range(ENOUGH + 1):
        pace.batch_ended(0.0, 8.0 * number, more_wait=number < ENOUGH)
    assert pace.interval == 8.0

    pace.batch_ended(0.0, 90.0, more_wait=False)
    assert pace.interval == 8.0
    pace.batch_ended(100.0, 102.0, more_wait=False)
    assert pace.interval == 5.0


def test_a_model_that_was_slow_for_a_while_is_soon_known_to_be_fast_again() -> None:
    async def test() -> None:
        model = Model()
        batcher = batching(model)
        model.seconds = 2.0
        await asyncio.gather(*[batcher.submit(request(), batcher.now() + 1e6) for _ in range(80)])
        model.seconds = 0.01

        refused = []
        for _ in range(10):
            for group in ("a", "b", "c"):
                try:
                    batcher.submit(request(group), batcher.now() + TIMEOUT)
                except Overloaded:
                    refused.append(batcher.now())
                await asyncio.sleep(0.001)
            await asyncio.sleep(1.0)

        assert len(refused) <= 2
        assert not batcher.in_flight

    virtual_time.run(test())


@pytest.mark.parametrize(
    ("own_rows", "groups", "all_rows", "batches"),
    [
        (1, 1, 1, 1),
        (8, 1, 8, 2),
        (9, 1, 9, 3),
        # Turns are taken: the long queue of another group counts as one batch.
        (1, 2, 4000, 2),
        # And groups that are short end early.
        (400, 51, 450, 51 + 112),
    ],
)
def test_batches_until(own_rows: int, groups: int, all_rows: int, batches: int) -> None:
    assert batches_until(own_rows, 4, groups, all_rows) == batches
