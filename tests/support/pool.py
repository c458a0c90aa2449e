"""A pool of real workers, and small models for it."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np

from headrace.batching.batcher import Batcher
from headrace.batching.limits import BatchLimits
from headrace.executors.pool import WorkerPool
from headrace.executors.process import Environment
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Tensor
from headrace.settings import ModelSettings


def write_model(folder: Path, body: str, load: str = "pass") -> ModelSettings:
    """A model whose predict has `body`, which sees the ndarray `x`."""
    source = f"""
import os, signal, sys, time
import numpy as np
from headrace.model import Model

class Tried(Model):
    def load(self):
{textwrap.indent(textwrap.dedent(load), "        ")}

    def predict(self, x: np.ndarray) -> np.ndarray:
{textwrap.indent(textwrap.dedent(body), "        ")}
"""
    name = f"tried_{folder.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(source)
    return ModelSettings("tried", f"{name}.Tried", uri=str(folder), folder=str(folder))


def request(*values: float) -> InferenceRequest:
    data = np.array(values, np.float64)
    return InferenceRequest([Tensor("x", "FP64", [len(values)], data.tobytes())])


def answer(response: InferenceResponse) -> list[float]:
    return np.frombuffer(response.outputs[0].data).tolist()


def run(test: Callable[[WorkerPool], Coroutine[Any, Any, None]], size: int = 1) -> None:
    async def main() -> None:
        pool = WorkerPool(Environment(sys.executable), size, load_timeout=30)
        try:
            await asyncio.wait_for(test(pool), 60)
        finally:
            await pool.stop()

    asyncio.run(main())


def batcher_of(pool: WorkerPool, key: str, **limits: Any) -> Batcher:
    return Batcher(
        lambda r, d: pool.infer(key, r, d),
        BatchLimits(**limits),
        execute_alone=lambda r, d: pool.infer_alone(key, r, d),
    )


def soon(seconds: float = 120) -> float:
    return asyncio.get_running_loop().time() + seconds
