"""Streamed answers from real worker processes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.errors import DeadlineExceeded, ModelFailed, Unimplemented
from headrace.executors.pool import WorkerPool
from headrace.executors.process import Environment
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Tensor
from headrace.settings import ModelSettings

COUNTER = """
import asyncio, time
import numpy as np
from headrace import Model

class Counter(Model):
    def predict(self, n: int) -> int:
        return n

    def predict_stream(self, n: int):
        for number in range(n):
            if number == 99:
                raise RuntimeError("secret")
            yield np.array([number])

class AsyncCounter(Model):
    def predict(self, n: int) -> int:
        return n

    async def predict_stream(self, n: int):
        for number in range(n):
            await asyncio.sleep(0)
            yield np.array([number])

class Endless(Model):
    produced = 0

    def predict(self, n: int) -> int:
        return self.produced

    def predict_stream(self, n: int):
        while True:
            self.produced += 1
            yield np.array([self.produced])

class Hangs(Model):
    def predict(self, n: int) -> int:
        return n

    def predict_stream(self, n: int):
        time.sleep(600)
        yield n

class Plain(Model):
    def predict(self, n: int) -> int:
        return n
"""


def run(folder: Path, name: str, test: Callable[[WorkerPool], Coroutine[Any, Any, None]]) -> None:
    (folder / "streamed.py").write_text(COUNTER)

    async def main() -> None:
        pool = WorkerPool(Environment(sys.executable), 1, load_timeout=30)
        try:
            await pool.load("m", ModelSettings("m", f"streamed.{name}", folder=str(folder)))
            await asyncio.wait_for(test(pool), 30)
        finally:
            await pool.stop()

    asyncio.run(main())


def request(n: int) -> InferenceRequest:
    return InferenceRequest([Tensor("n", "INT64", [1], np.array([n], np.int64).tobytes())])


def number(response: InferenceResponse) -> int:
    return int(np.frombuffer(response.outputs[0].data, np.int64)[0])


async def exhaust(pieces: AsyncGenerator[InferenceResponse, None]) -> None:
    async for _ in pieces:
        pass


def soon(seconds: float = 20) -> float:
    return asyncio.get_running_loop().time() + seconds


@pytest.mark.parametrize("name", ["Counter", "AsyncCounter"])
def test_pieces_arrive_in_order_and_end(tmp_path: Path, name: str) -> None:
    async def test(pool: WorkerPool) -> None:
        pieces = [number(piece) async for piece in pool.stream("m", request(50), soon())]

        assert pieces == list(range(50))

    run(tmp_path, name, test)


def test_an_error_in_the_middle_comes_after_the_pieces_before_it(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        pieces = pool.stream("m", request(200), soon())
        received = [number(await anext(pieces)) for _ in range(99)]
        with pytest.raises(ModelFailed):
            await anext(pieces)

        assert received == list(range(99))

    run(tmp_path, "Counter", test)


def test_a_slow_reader_slows_the_model_down(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        pieces = pool.stream("m", request(1), soon())
        assert number(await anext(pieces)) == 1
        await pieces.aclose()
        produced = number(await pool.infer("m", request(1), soon()))

        # The window, the piece that was taken, and the one made while waiting for a grant.
        assert produced <= 18

    run(tmp_path, "Endless", test)


def test_a_stream_ends_at_its_deadline(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        with pytest.raises(DeadlineExceeded):
            await exhaust(pool.stream("m", request(1), soon(0.2)))

    run(tmp_path, "Endless", test)


def test_a_worker_whose_stream_hangs_after_its_deadline_is_ended_and_the_model_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.executors.pool.STOP_GRACE", 0.2)

    async def test(pool: WorkerPool) -> None:
        (worker,) = pool._processes
        with pytest.raises(DeadlineExceeded):
            await exhaust(pool.stream("m", request(1), soon(0.2)))
        await worker.exited.wait()

        assert number(await pool.infer("m", request(7), soon())) == 7
        assert pool.restarts == 1

    run(tmp_path, "Hangs", test)


def test_a_reader_who_is_late_learns_of_the_deadline_at_the_next_piece(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        deadline, passed = soon(0.2), asyncio.Event()
        asyncio.get_running_loop().call_at(deadline, passed.set)
        pieces = pool.stream("m", request(1), deadline)
        await anext(pieces)
        await passed.wait()
        with pytest.raises(DeadlineExceeded):
            await anext(pieces)

    run(tmp_path, "Endless", test)


def test_a_stream_that_nobody_reads_on_ends_in_the_worker_at_its_deadline(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        (worker,) = pool._processes
        pieces = pool.stream("m", request(1), soon(1))
        await anext(pieces)
        while worker.channel.calls:
            await asyncio.sleep(0.01)
        with pytest.raises(DeadlineExceeded):
            await anext(pieces)

        assert pool.restarts == 0

    run(tmp_path, "Endless", test)


def test_a_model_without_predict_stream_says_so(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        with pytest.raises(Unimplemented, match="does not stream"):
            await exhaust(pool.stream("m", request(1), soon()))

    run(tmp_path, "Plain", test)
