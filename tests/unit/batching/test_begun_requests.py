"""Batches that are begun without a task, and bounded all the same."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from headrace.batching.batcher import Batcher
from headrace.batching.limits import BatchLimits
from headrace.errors import BadModelOutput, HeadraceError, InvalidInput, ModelFailed, WorkerCrashed
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Tensor

FAR = 1e9
AGAIN = InferenceResponse([], {"way": "run again"})


class Worker:
    """Begins requests, and ends them as the test says; `execute` is the usual way."""

    def __init__(self) -> None:
        self.begun: list[tuple[InferenceRequest, Callable[[Any], None]]] = []
        self.executed: list[InferenceRequest] = []
        self.refusal: Exception | None = None
        self.is_up = True

    def begin(self, request: InferenceRequest, deadline: float, done: Any) -> bool:
        if self.refusal is not None:
            raise self.refusal
        if self.is_up:
            self.begun.append((request, done))
        return self.is_up

    async def execute(self, request: InferenceRequest, deadline: float) -> InferenceResponse:
        self.executed.append(request)
        if self.refusal is not None:
            raise self.refusal
        return AGAIN

    def batcher(self, slots: int) -> Batcher:
        return Batcher(self.execute, BatchLimits(), slots, begin=self.begin)


def request() -> InferenceRequest:
    return InferenceRequest([Tensor("body", "BYTES", [], b"{}")])


def run(test: Callable[[Worker], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(Worker()), 10))


def test_a_request_is_begun_as_soon_as_it_is_submitted() -> None:
    async def test(worker: Worker) -> None:
        answer = worker.batcher(2).submit(request(), FAR)

        ((_, done),) = worker.begun
        response = InferenceResponse([])
        done(response)
        assert await answer is response

    run(test)


def test_no_more_are_begun_than_there_are_slots_and_the_first_that_waits_is_next() -> None:
    async def test(worker: Worker) -> None:
        batcher = worker.batcher(2)
        sent = [request() for _ in range(4)]
        for each in sent:
            batcher.submit(each, FAR)
        await asyncio.sleep(0)
        assert [each for each, _ in worker.begun] == sent[:2]

        worker.begun[0][1](InferenceResponse([]))

        assert [each for each, _ in worker.begun] == sent[:3]
        assert batcher.in_flight == 3

    run(test)


def test_a_request_does_not_overtake_those_that_wait() -> None:
    async def test(worker: Worker) -> None:
        batcher = worker.batcher(1)
        sent = [request() for _ in range(2)]
        batcher.submit(sent[0], FAR)
        batcher.submit(sent[1], FAR)
        worker.begun[0][1](InferenceResponse([]))
        late = request()
        batcher.submit(late, FAR)
        worker.begun[1][1](InferenceResponse([]))
        await asyncio.sleep(0)

        assert [each for each, _ in worker.begun] == [*sent, late]

    run(test)


def test_a_request_whose_worker_died_runs_again_unnoticed() -> None:
    async def test(worker: Worker) -> None:
        batcher = worker.batcher(1)
        answer = batcher.submit(request(), FAR)
        worker.begun[0][1](WorkerCrashed("it died"))

        assert await answer is AGAIN
        assert worker.executed == [worker.begun[0][0]]

    run(test)


def test_a_request_that_failed_is_not_run_again() -> None:
    async def test(worker: Worker) -> None:
        answer = worker.batcher(1).submit(request(), FAR)
        worker.begun[0][1](ModelFailed("no"))

        with pytest.raises(ModelFailed):
            await answer
        assert worker.executed == []

    run(test)


def test_a_request_waits_for_a_worker_that_is_not_up_in_the_usual_way() -> None:
    async def test(worker: Worker) -> None:
        worker.is_up = False

        assert await worker.batcher(1).submit(request(), FAR) is AGAIN

    run(test)


def test_a_request_that_cannot_be_sent_is_refused_with_the_reason() -> None:
    async def test(worker: Worker) -> None:
        worker.refusal = InvalidInput("not this")

        with pytest.raises(InvalidInput, match="not this"):
            await worker.batcher(1).submit(request(), FAR)

    run(test)


def test_draining_waits_for_what_was_begun() -> None:
    async def test(worker: Worker) -> None:
        batcher = worker.batcher(2)
        for _ in range(2):
            batcher.submit(request(), FAR)
        drained = asyncio.ensure_future(batcher.drain())
        for _, done in worker.begun:
            await asyncio.sleep(0)
            assert not drained.done()
            done(InferenceResponse([]))

        await drained

    run(test)


def test_every_drain_ends_even_if_another_is_given_up() -> None:
    async def test(worker: Worker) -> None:
        batcher = worker.batcher(1)
        batcher.submit(request(), FAR)
        drains = [asyncio.ensure_future(batcher.drain()) for _ in range(3)]
        await asyncio.sleep(0)
        drains[1].cancel()
        await asyncio.sleep(0)
        worker.begun[0][1](InferenceResponse([]))

        await drains[0]
        await drains[2]

    run(test)


@pytest.mark.parametrize("size", [1, 8])
def test_a_request_that_a_fault_of_the_server_keeps_from_being_sent_does_not_hang(
    size: int,
) -> None:
    async def test(worker: Worker) -> None:
        batcher = Batcher(worker.execute, BatchLimits(size), 1, begin=worker.begin)
        worker.refusal = MemoryError()

        with pytest.raises(HeadraceError, match="the server failed"):
            await batcher.submit(rows(1.0), FAR)
        worker.refusal = None
        batcher.submit(rows(1.0), FAR)
        await asyncio.sleep(0)
        assert len(worker.begun) == 1

    run(test)


def test_an_answer_that_a_fault_of_the_server_keeps_from_being_divided_does_not_hang() -> None:
    async def test(worker: Worker) -> None:
        batcher = Batcher(worker.execute, BatchLimits(8), 1, begin=worker.begin)
        answers = [batcher.submit(rows(value), FAR) for value in (1.0, 2.0)]
        await asyncio.sleep(0)
        broken: Any = None
        worker.begun[0][1](InferenceResponse([Tensor("y", "FP64", [2], broken)]))

        for answer in answers:
            with pytest.raises(HeadraceError):
                await answer

    run(test)


def rows(*values: float) -> InferenceRequest:
    return InferenceRequest([Tensor("x", "FP64", [len(values)], array("d", values).tobytes())])


def test_requests_that_waited_are_begun_as_one_batch_and_each_gets_its_rows() -> None:
    async def test(worker: Worker) -> None:
        batcher = Batcher(worker.execute, BatchLimits(8), 1, begin=worker.begin)
        answers = [batcher.submit(rows(*values), FAR) for values in ([1.0], [2.0, 3.0])]
        await asyncio.sleep(0)
        ((merged, done),) = worker.begun
        assert merged.inputs[0].shape == [3]
        done(InferenceResponse(merged.inputs))

        first, second = [(await answer).outputs[0] for answer in answers]
        assert (bytes(first.data), first.shape) == (rows(1.0).inputs[0].data, [1])
        assert (bytes(second.data), second.shape) == (rows(2.0, 3.0).inputs[0].data, [2])

    run(test)


def test_the_requests_of_a_batch_whose_worker_died_run_again_one_by_one() -> None:
    async def test(worker: Worker) -> None:
        batcher = Batcher(worker.execute, BatchLimits(8), 1, begin=worker.begin)
        sent = [rows(1.0), rows(2.0)]
        answers = [batcher.submit(each, FAR) for each in sent]
        await asyncio.sleep(0)
        worker.begun[0][1](WorkerCrashed("it died"))

        assert await asyncio.gather(*answers) == [AGAIN, AGAIN]
        assert worker.executed == sent

    run(test)


def test_a_batch_whose_answer_cannot_be_divided_fails_as_a_whole() -> None:
    async def test(worker: Worker) -> None:
        batcher = Batcher(worker.execute, BatchLimits(8), 1, begin=worker.begin)
        answers = [batcher.submit(rows(value), FAR) for value in (1.0, 2.0)]
        await asyncio.sleep(0)
        worker.begun[0][1](InferenceResponse(rows(1.0).inputs))

        failed = await asyncio.gather(*answers, return_exceptions=True)
        assert [type(each) for each in failed] == [BadModelOutput, BadModelOutput]

    run(test)


def row() -> InferenceRequest:
    return InferenceRequest([Tensor("x", "FP64", [1], bytes(8))])


def in_batches(worker: Worker, slots: int) -> Batcher:
    return Batcher(worker.execute, BatchLimits(max_batch_size=8), slots, begin=worker.begin)


def answer_of(*shape: int) -> InferenceResponse:
    return InferenceResponse([Tensor("y", "FP64", list(shape), bytes(8 * shape[0]))])


def test_while_one_batch_runs_the_next_waits_for_requests_that_keep_coming() -> None:
    async def test(worker: Worker) -> None:
        batcher = in_batches(worker, 2)
        batcher.submit(row(), FAR)
        await asyncio.sleep(0)
        assert len(worker.begun) == 1
        for _ in range(3):
            batcher.submit(row(), FAR)
            await asyncio.sleep(0)
        assert len(worker.begun) == 1

        await asyncio.sleep(0)

        assert worker.begun[1][0].inputs[0].shape == [3]

    run(test)


def test_a_batch_that_waits_for_more_goes_once_the_running_one_has_ended() -> None:
    async def test(worker: Worker) -> None:
        batcher = in_batches(worker, 2)
        batcher.submit(row(), FAR)
        await asyncio.sleep(0)
        batcher.submit(row(), FAR)
        assert len(worker.begun) == 1

        worker.begun[0][1](answer_of(1))

        assert len(worker.begun) == 2

    run(test)
