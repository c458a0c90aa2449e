"""Answers to the calls of runners: large ones are copied beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from headrace.executors.runner_answers import LARGE, Answered, RunnerAnswers
from headrace.protocol import large_buffers
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.tensor import Buffer, Tensor
from headrace.worker import frames
from headrace.worker.frames import Kind


class Memory:
    """Memory that workers read, which knows the thread that asked for some."""

    def __init__(self) -> None:
        self.places: list[memoryview] = []
        self.asked_by = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def new(self, size: int) -> memoryview:
        self.asked_by = threading.get_ident()
        assert self.may_go_on.wait(30)
        self.places.append(memoryview(bytearray(size)))
        return self.places[-1]

    def offset(self, data: Buffer) -> int | None:
        found = [
            place for place, each in enumerate(self.places) if each.obj is memoryview(data).obj
        ]
        return found[0] if found else None


class Worker:
    """The channel to a worker, which keeps the kinds of the frames that are sent."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.sent: list[Kind] = []
        self.lent: list[int | None] = []

    def send(self, buffers: list[Buffer]) -> None:
        self.sent.append(Kind(frames.parse_header(b"".join(buffers), 0)[0]))

    def described(self, tensors: Sequence[Tensor]) -> tuple[list[list[Any]], list[Buffer]]:
        self.lent += [self._memory.offset(tensor.data) for tensor in tensors]
        return [], []

    def take_back(self, offsets: list[int]) -> None: ...


@pytest.fixture
def memory() -> Any:
    memory = Memory()
    large_buffers.share(memory)
    yield memory
    memory.may_go_on.set()
    large_buffers.share(None)


def answering(worker: Worker, tensor: Tensor, then: Any) -> None:
    """Answer a call with a tensor, and run `then` with the calls of the worker."""

    async def run() -> None:
        loop = asyncio.get_running_loop()

        def ask(name: str, request: Any, timeout: Any, answered: Answered) -> asyncio.Future[Any]:
            future = loop.create_future()
            future.add_done_callback(answered)
            loop.call_soon(future.set_result, InferenceResponse([tensor]))
            return future

        answers = RunnerAnswers(worker, ask)
        answers.take(1, {"model": "m", "id": "1"}, [], 0)
        await then(answers)

    asyncio.run(run())


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize(("size", "is_large"), [(LARGE - 1, False), (LARGE, True)])
def test_a_large_answer_is_copied_in_a_thread(size: int, is_large: bool, memory: Memory) -> None:
    worker, tensor = Worker(memory), Tensor("y", "INT8", [size], bytes(size))

    async def then(answers: RunnerAnswers) -> None:
        await until(lambda: worker.sent)

    answering(worker, tensor, then)

    assert worker.sent == [Kind.CALL_RESULT]
    assert (memory.asked_by not in (0, threading.get_ident())) is is_large
    assert worker.lent == [0 if is_large else None]
    # Who else has the answer keeps what it has.
    assert type(tensor.data) is bytes


def test_nothing_is_sent_of_an_answer_that_nobody_waits_for_once_it_is_copied(
    memory: Memory,
) -> None:
    worker = Worker(memory)
    memory.may_go_on.clear()

    async def then(answers: RunnerAnswers) -> None:
        await until(lambda: memory.asked_by)
        answers.withdraw(1)
        memory.may_go_on.set()
        await until(lambda: memory.places)
        await asyncio.get_running_loop().shutdown_default_executor()

    answering(worker, Tensor("y", "INT8", [LARGE], bytes(LARGE)), then)

    assert worker.sent == []


def test_an_answer_that_cannot_be_copied_is_an_error(memory: Memory) -> None:
    worker = Worker(memory)

    def none(size: int) -> memoryview:
        raise MemoryError

    memory.new = none  # type: ignore[method-assign]

    async def then(answers: RunnerAnswers) -> None:
        await until(lambda: worker.sent)

    answering(worker, Tensor("y", "INT8", [LARGE], bytes(LARGE)), then)

    assert worker.sent == [Kind.CALL_ERROR]
