"""What a worker sends of its models as JSON: parameters of answers, and messages of errors."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import BadModelOutput, InvalidInput
from headrace.executors.pool import WorkerPool
from headrace.executors.process import Environment
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor
from headrace.settings import ModelSettings


def write_model(folder: Path, infer: str) -> ModelSettings:
    """A model that answers in one line."""
    source = f"""
import numpy as np
from headrace import InvalidInput
from headrace.model import Model
from headrace.protocol.messages import InferenceResponse

class Fixed(Model):
    def infer(self, request):
        {infer}
"""
    name = f"fixed_{folder.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(source)
    return ModelSettings("fixed", f"{name}.Fixed", uri=str(folder), folder=str(folder))


def write_parameters(folder: Path, parameters: str) -> ModelSettings:
    """A model that answers every request with this parameter `p`."""
    answer = f"return InferenceResponse(request.inputs, {{'p': {parameters}}})"
    return write_model(folder, answer)


def request(size: int = 8) -> InferenceRequest:
    return InferenceRequest([Tensor("x", "UINT8", [size], bytes(size))])


def run(test: Callable[[WorkerPool], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        pool = WorkerPool(Environment(sys.executable), 1, load_timeout=30)
        try:
            await asyncio.wait_for(test(pool), 60)
        finally:
            await pool.stop()

    asyncio.run(main())


def soon() -> float:
    return asyncio.get_running_loop().time() + 30


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        pytest.param("float('nan')", None, id="NaN"),
        pytest.param(r"'a\udc80b'", "a?b", id="half a surrogate pair"),
        pytest.param("np.float32(0.5)", 0.5, id="a numpy number"),
        pytest.param("[np.array([1.5, np.inf])]", [[1.5, None]], id="a numpy array"),
    ],
)
def test_parameters_without_a_json_form_arrive_as_the_nearest_one(
    sent: str, received: Any, tmp_path: Path
) -> None:
    async def test(pool: WorkerPool) -> None:
        await pool.load("m", write_parameters(tmp_path, sent))
        response = await pool.infer("m", request(), soon())

        assert response.parameters == {"p": received}

    run(test)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param("{(1, 2): 3}", id="a key that is not text"),
        pytest.param("10 ** 400", id="a number that only Python holds"),
    ],
)
def test_an_answer_that_cannot_be_sent_fails_only_its_caller(sent: str, tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        await pool.load("m", write_parameters(tmp_path, sent))
        with pytest.raises(BadModelOutput):
            await pool.infer("m", request(1_000_000), soon())

        assert pool.restarts == 0
        with pytest.raises(BadModelOutput):
            await pool.infer("m", request(), soon())

    run(test)


def test_a_message_that_utf8_cannot_hold_reaches_the_caller(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        words = r"raise InvalidInput('not a\udc80b')"
        await pool.load("m", write_model(tmp_path, words))
        with pytest.raises(InvalidInput, match=r"not a\?b"):
            await pool.infer("m", request(), soon())

    run(test)
