"""The batcher: coalescing, splitting, shedding, cancelling, and what a failure costs."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from headrace.batching.batcher import Batcher
from headrace.batching.limits import BatchLimits
from headrace.errors import (
    BadModelOutput,
    DeadlineExceeded,
    HeadraceError,
    InvalidInput,
    ModelFailed,
    Overloaded,
    Poisoned,
    ShuttingDown,
    WorkerCrashed,
)
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Tensor

FAR = 1e9


class Model:
    """Doubles its input, one batch at a time; a closed gate keeps a batch running."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: list[Callable[[list[float]], HeadraceError | None]] = []

    async def __call__(self, request: InferenceRequest, deadline: float) -> InferenceResponse:
        tensor = request.inputs[0]
        values = list(struct.unpack(f"<{len(tensor.data) // 8}d", tensor.data))
        self.batches.append(values)
        await self.gate.wait()
        for failure in self.failures:
            if (error := failure(values)) is not None:
                raise error
        data = struct.pack(f"<{len(values)}d", *(2 * value for value in values))
        return InferenceResponse([Tensor("y", "FP64", [len(values)], data)])


def request(*values: float, name: str = "x", **more: Any) -> InferenceRequest:
    data = struct.pack(f"<{len(values)}d", *values)
    return InferenceRequest([Tensor(name, "FP64", [len(values), 1], data)], **more)


def answer(response: InferenceResponse) -> list[float]:
    data = response.outputs[0].data
    return list(struct.unpack(f"<{len(data) // 8}d", data))


def run(test: Callable[[Model], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(Model()), 10)

    asyncio.run(main())


def batching(size: int = 8, **limits: Any) -> BatchLimits:
    return BatchLimits(max_batch_size=size, **limits)


def test_a_lone_request_is_dispatched_at_once() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, batching())

        assert answer(await batcher.submit(request(1.0), FAR)) == [2.0]

    run(test)


def test_a_request_that_cannot_be_merged_is_not_held_for_others() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, batching(max_batch_time=1000))
        lone = InferenceRequest([Tensor("x", "FP64", [], struct.pack("<d", 1.0))])

        await batcher.submit(lone, FAR)

        assert model.batches == [[1.0]]

    run(test)


def test_abandoned_requests_fail_whether_they_wait_or_run() -> None:
    async def test(model: Model) -> None:
        model.gate.clear()
        batcher = Batcher(model, batching(1))
        calls = [batcher.submit(request(float(n)), FAR) for n in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert model.batches == [[0.0]]

        batcher.abandon(ShuttingDown("the end"))

        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [str(error) for error in errors] == ["the end"] * 3
        model.gate.set()
        await batcher.drain()
        assert model.batches == [[0.0]]

    run(test)


def test_requests_that_arrive_while_the_model_runs_are_dispatched_together() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, batching())
        model.gate.clear()
        first = batcher.submit(request(1.0), FAR)
        await settle()
        others = [batcher.submit(request(value), FAR) for value in (2.0, 3.0, 4.0)]
        await settle()
        model.gate.set()
        await asyncio.gather(first, *others)

        assert model.batches == [[1.0], [2.0, 3.0, 4.0]]
        assert [answer(future.result()) for future in others] == [[4.0], [6.0], [8.0]]

    run(test)


def test_max_batch_size_counts_rows_and_is_inclusive() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, batching(4))
        futures = [batcher.submit(request(*values), FAR) for values in ((1, 2), (3, 4), (5,))]
        await asyncio.gather(*futures)

        assert model.batches == [[1, 2, 3, 4], [5]]

    run(test)


def test_groups_take_turns() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, batching(2))
        calls = [batcher.submit(request(*values), FAR) for values in ((1, 2), (3, 4))]
        await asyncio.gather(*calls, batcher.submit(request(5, name="z"), FAR))

        assert model.batches == [[1, 2], [5], [3, 4]]

    run(test)


def test_an_impatient_caller_does_not_end_the_execution_of_its_batch() -> None:
    async def test(model: Model) -> None:
        deadlines = []

        async def execute(request: InferenceRequest, deadline: float) -> InferenceResponse:
            deadlines.append(deadline)
            return await model(request, deadline)

        now = asyncio.get_running_loop().time()
        await Batcher(execute, batching(infer_timeout=100)).submit(request(1.0), now + 5)

        assert deadlines[0] >= now + 100

    run(test)


def test_a_request_that_expires_while_its_worker_dies_is_not_run_again() -> None:
    async def test(model: Model) -> None:
        model.failures.append(lambda _: WorkerCrashed("it died"))
        batcher = Batcher(model, batching())
        with pytest.raises(DeadlineExceeded):
            await batcher.submit(request(1.0), asyncio.get_running_loop().time())

        assert model.batches == [[1.0]]

    run(test)


def test_a_request_larger_than_the_batch_size_runs_alone() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, batching(2))
        futures = [batcher.submit(request(*values), FAR) for values in ((1, 2, 3), (4,))]
        await asyncio.gather(*futures)

        assert model.batches == [[1, 2, 3], [4]]

    run(test)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(request(2.0, name="z"), id="input name"),
        pytest.param(request(2.0, parameters={"scale": 2}), id="request parameters"),
        pytest.param(request(2.0, outputs=["y"]), id="requested outputs"),
        pytest.param(InferenceRequest([Tensor("x", "INT64", [1, 1], bytes(8))]), id="datatype"),
        pytest.param(
            InferenceRequest([Tensor("x", "FP64", [1, 2], bytes(16))]), id="trailing shape"
        ),
        pytest.param(
            InferenceRequest([Tensor("x", "FP64", [1, 1], bytes(8), {"content_type": "np"})]),
            id="tensor parameters",
        ),
    ],
)
def test_requests_that_differ_in_anything_but_rows_never_share_a_batch(
    other: InferenceRequest,
) -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, batching())
        await asyncio.gather(batcher.submit(request(1.0), FAR), batcher.submit(other, FAR))

        assert len(model.batches) == 2

    run(test)


def test_raw_scoring_bodies_are_never_merged() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, batching())
        raw = {"content_type": "mlflow"}
        futures = [batcher.submit(request(1.0, parameters=raw), FAR) for _ in range(2)]
        await asyncio.gather(*futures)

        assert len(model.batches) == 2

    run(test)


def test_a_caller_who_leaves_the_queue_takes_the_rows_along() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, batching())
        model.gate.clear()
        first = batcher.submit(request(1.0), FAR)
        await settle()
        leaver, stayer = (batcher.submit(request(value), FAR) for value in (2.0, 3.0))
        leaver.cancel()
        model.gate.set()

        assert answer(await stayer) == [6.0]
        await first
        assert model.batches == [[1.0], [3.0]]
        assert batcher.in_flight == 0

    run(test)


def test_a_caller_who_leaves_a_running_batch_does_not_disturb_its_neighbours() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, batching())
        model.gate.clear()
        leaver, stayer = (batcher.submit(request(value), FAR) for value in (1.0, 2.0))
        await settle()
        leaver.cancel()
        model.gate.set()

        assert answer(await stayer) == [4.0]

    run(test)


def test_one_bad_request_fails_alone() -> None:
    async def test(model: Model) -> None:
        model.failures.append(lambda values: InvalidInput("bad") if -1.0 in values else None)
        batcher = Batcher(model, batching())
        futures = [batcher.submit(request(value), FAR) for value in (1.0, -1.0, 2.0)]
        results = await asyncio.gather(*futures, return_exceptions=True)

        assert isinstance(results[1], InvalidInput)
        assert [answer(results[0]), answer(results[2])] == [[2.0], [4.0]]  # type: ignore[arg-type]

    run(test)


@pytest.mark.parametrize(
    "output",
    [
        Tensor("y", "FP64", [1], bytes(8)),
        Tensor("y", "FP64", [2], bytes(24)),
        Tensor("y", "FP8", [2], bytes(2)),
    ],
    ids=["rows", "bytes", "datatype"],
)
def test_an_answer_whose_rows_cannot_be_told_apart_fails_the_batch(output: Tensor) -> None:
    async def test(model: Model) -> None:
        async def wrong(request: InferenceRequest, deadline: float) -> InferenceResponse:
            return InferenceResponse([output])

        batcher = Batcher(wrong, batching())
        futures = [batcher.submit(request(value), FAR) for value in (1.0, 2.0)]
        results = await asyncio.gather(*futures, return_exceptions=True)

        assert all(isinstance(result, BadModelOutput) for result in results)

    run(test)


def test_a_batch_whose_worker_died_runs_again_unnoticed() -> None:
    async def test(model: Model) -> None:
        deaths = [WorkerCrashed("killed")]
        model.failures.append(lambda values: deaths.pop() if deaths else None)
        batcher = Batcher(model, batching())
        futures = [batcher.submit(request(value), FAR) for value in (1.0, 2.0)]

        assert [answer(await future) for future in futures] == [[2.0], [4.0]]

    run(test)


def test_a_request_that_kills_the_worker_twice_is_tried_alone_and_its_neighbours_live() -> None:
    async def test(model: Model) -> None:
        model.failures.append(lambda values: WorkerCrashed("died") if 3.0 in values else None)
        alone = Model()
        alone.failures.append(lambda values: WorkerCrashed("died"))
        batcher = Batcher(model, batching(), execute_alone=alone)
        futures = [batcher.submit(request(float(value)), FAR) for value in range(8)]
        results = await asyncio.gather(*futures, return_exceptions=True)

        assert [index for index, r in enumerate(results) if isinstance(r, Poisoned)] == [3]
        assert sum(3.0 in batch for batch in model.batches) == 2
        assert alone.batches == [[3.0]]

    run(test)


def test_a_request_present_at_two_deaths_by_chance_is_answered() -> None:
    async def test(model: Model) -> None:
        model.failures.append(lambda values: WorkerCrashed("a neighbour's fault"))
        batcher = Batcher(model, batching(), execute_alone=Model())

        assert answer(await batcher.submit(request(1.0), FAR)) == [2.0]

    run(test)


def test_a_full_queue_refuses_at_once_and_names_the_flag() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, BatchLimits(max_queue_size=1))
        model.gate.clear()
        running = batcher.submit(request(1.0), FAR)
        await settle()
        waiting = batcher.submit(request(2.0), FAR)
        with pytest.raises(Overloaded, match="--max-queue-size"):
            batcher.submit(request(3.0), FAR)
        model.gate.set()
        await asyncio.gather(running, waiting)

    run(test)


def test_the_queue_is_bounded_in_bytes() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, BatchLimits(max_queue_bytes=12))
        model.gate.clear()
        running = batcher.submit(request(1.0), FAR)
        await settle()
        waiting = batcher.submit(request(2.0), FAR)
        with pytest.raises(Overloaded, match="--max-queue-bytes"):
            batcher.submit(request(3.0), FAR)
        model.gate.set()
        await asyncio.gather(running, waiting)

    run(test)


def test_a_request_that_expires_in_the_queue_is_never_executed() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, BatchLimits())
        model.gate.clear()
        running = batcher.submit(request(1.0), FAR)
        await settle()
        late = batcher.submit(request(2.0), asyncio.get_running_loop().time() + 0.01)
        with pytest.raises(DeadlineExceeded):
            await late
        model.gate.set()
        await running
        await batcher.drain()

        assert model.batches == [[1.0]]

    run(test)


def test_a_lone_failure_is_not_executed_again() -> None:
    async def test(model: Model) -> None:
        model.failures.append(lambda values: ModelFailed("no"))
        batcher = Batcher(model, batching())
        with pytest.raises(ModelFailed):
            await batcher.submit(request(1.0), FAR)

        assert len(model.batches) == 1

    run(test)


def test_max_batch_time_holds_a_batch_open_for_more() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, batching(max_batch_time=5.0, size=2))
        first = batcher.submit(request(1.0), FAR)
        await settle()
        assert model.batches == []
        second = batcher.submit(request(2.0), FAR)
        await asyncio.gather(first, second)

        assert model.batches == [[1.0, 2.0]]

    run(test)


def test_a_batch_can_be_held_for_under_a_millisecond_on_uvloop() -> None:
    faults: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
        batcher = Batcher(Model(), batching(max_batch_time=0.0004), slots=2)
        await asyncio.gather(
            batcher.submit(request(1.0), FAR), batcher.submit(request(2.0, name="z"), FAR)
        )

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())

    assert faults == []


def test_a_batch_held_open_is_dispatched_at_once_when_draining() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, batching(max_batch_time=1000))
        call = batcher.submit(request(1.0), FAR)
        await batcher.drain()

        assert answer(call.result()) == [2.0]

    run(test)


def test_a_request_that_cannot_be_run_again_still_gets_an_answer() -> None:
    async def test(model: Model) -> None:
        model.failures.append(lambda _: WorkerCrashed("it died"))

        async def alone(request: InferenceRequest, deadline: float) -> InferenceResponse:
            raise OSError("Too many open files")

        batcher = Batcher(model, batching(), execute_alone=alone)
        with pytest.raises(HeadraceError, match="the server failed"):
            await batcher.submit(request(1.0), FAR)

    run(test)


def test_a_batch_that_all_callers_left_is_withdrawn() -> None:
    async def test(model: Model) -> None:
        withdrawn: list[InferenceRequest] = []
        batcher = Batcher(model, batching(), withdraw=withdrawn.append)
        model.gate.clear()
        sent = request(1.0)
        batcher.submit(sent, FAR).cancel()
        leaver = batcher.submit(sent, FAR)
        await settle()
        leaver.cancel()
        while not withdrawn:
            await asyncio.sleep(0)
        model.gate.set()
        await batcher.drain()

        assert withdrawn == [sent]

    run(test)


def test_two_slots_run_two_batches_at_once() -> None:
    async def test(model: Model) -> None:
        batcher = Batcher(model, BatchLimits(), slots=2)
        model.gate.clear()
        futures = [batcher.submit(request(value), FAR) for value in (1.0, 2.0, 3.0)]
        await settle()
        assert model.batches == [[1.0], [2.0]]
        model.gate.set()
        await asyncio.gather(*futures)

    run(test)


async def settle() -> None:
    """Let everything run that can run before anything new happens."""
    for _ in range(5):
        await asyncio.sleep(0)
