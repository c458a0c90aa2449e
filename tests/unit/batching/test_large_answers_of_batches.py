"""Answers of which the event loop would look at too many texts."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from headrace.batching import policy
from headrace.batching.batcher import Batcher
from headrace.batching.limits import BatchLimits
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Tensor, pack_bytes

FAR = 1e9


def row(value: bytes) -> InferenceRequest:
    return InferenceRequest([Tensor("x", "BYTES", [1], pack_bytes([value]))])


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("size", [1, policy.MANY_TEXTS])
def test_many_texts_are_split_in_a_thread(
    monkeypatch: pytest.MonkeyPatch, begun: bool, size: int
) -> None:
    threads: list[threading.Thread] = []
    split = policy.split

    def splits(*given: Any) -> list[InferenceResponse]:
        threads.append(threading.current_thread())
        return split(*given)

    monkeypatch.setattr(policy, "split", splits)
    texts = [b"a" * size, b"b" * size]
    response = InferenceResponse([Tensor("y", "BYTES", [2], pack_bytes(texts))])

    async def test() -> None:
        async def execute(request: InferenceRequest, deadline: float) -> InferenceResponse:
            return response

        def begin(request: InferenceRequest, deadline: float, done: Any) -> bool:
            if begun:
                asyncio.get_running_loop().call_soon(done, response)
            return begun

        limits = BatchLimits(max_batch_size=2, max_batch_time=FAR)
        batcher = Batcher(execute, limits, begin=begin)
        answers = await asyncio.gather(*(batcher.submit(row(each), FAR) for each in (b"a", b"b")))

        assert [bytes(answer.outputs[0].data)[4:] for answer in answers] == texts

    asyncio.run(asyncio.wait_for(test(), 10))
    assert [each is threading.main_thread() for each in threads] == [size == 1]


def test_a_large_answer_that_cannot_be_split_has_its_requests_run_alone() -> None:
    async def execute(request: InferenceRequest, deadline: float) -> InferenceResponse:
        alone = request.inputs[0].shape == [1]
        data = pack_bytes([b"right"]) if alone else bytes(policy.MANY_TEXTS)
        return InferenceResponse([Tensor("y", "BYTES", request.inputs[0].shape, data)])

    async def test() -> None:
        batcher = Batcher(execute, BatchLimits(max_batch_size=2, max_batch_time=FAR))
        answers = await asyncio.gather(*(batcher.submit(row(each), FAR) for each in (b"a", b"b")))

        assert [answer.outputs[0].data for answer in answers] == [pack_bytes([b"right"])] * 2

    asyncio.run(asyncio.wait_for(test(), 10))
