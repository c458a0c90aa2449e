"""A shadow in a real worker that dies, hangs or fails never shows in the primary's answers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.dataplane import Call, Calls
from headrace.dataplane.observers.shadow import Shadows
from headrace.executors import placement
from headrace.executors.early_worker import EarlyWorker
from headrace.executors.placement import Placement
from headrace.executors.process import Environment
from headrace.executors.worker_program import WorkerProgram
from headrace.observability.counters import ShadowCounts
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor
from headrace.repository.loading import Loader
from headrace.repository.repository import ModelRepository
from headrace.serving.served_model import ServedModel
from headrace.settings import ModelSettings, ServerSettings

# Both versions answer with the process that they run in.
SOURCE = """
import os, signal, threading
import numpy as np
from headrace.model import Model

class Version(Model):
    def predict(self, x: np.ndarray) -> np.ndarray:
        if self.settings.version == "2":
            {body}
        return np.full(len(x), os.getpid())
"""
KILLS_ITSELF = "os.kill(os.getpid(), signal.SIGKILL)"
HANGS = "threading.Event().wait()"
RAISES = "raise ValueError('the shadow')"
PATIENCE = 120


@pytest.fixture(autouse=True)
def ordinary_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the shadow start in good time on a machine that is busy with other tests."""

    def environment(*arguments: Any, in_background: bool, **more: Any) -> Environment:
        return Environment(*arguments, **more)

    monkeypatch.setattr(placement, "Environment", environment)


class Here:
    """Every model runs on this interpreter."""

    async def python_for(self, settings: ModelSettings, progress: Any) -> str:
        return sys.executable

    async def close(self) -> None: ...


class World:
    """A model with a shadow, each in a worker of its own."""

    def __init__(self, folder: Path) -> None:
        settings = ServerSettings()
        self.placement = Placement(settings, Here(), EarlyWorker(WorkerProgram(sys.executable)))
        self.repository = ModelRepository(Loader(settings, self.placement), lambda name: [])
        self.folder = folder
        self.calls = Calls()
        self.shadows = Shadows(self.calls.observe)

    async def load(self, version: str, **settings: Any) -> ServedModel:
        return await self.repository.add(
            ModelSettings(
                *("m", "shadowed.Version"),
                version=version,
                folder=str(self.folder),
                max_batch_size=8,
                **settings,
            )
        )

    async def begin(self, **shadow: Any) -> None:
        self.primary = await self.load("1")
        self.shadow = await self.load("2", in_background=True, **shadow)
        self.shadows.begin(self.primary, self.shadow, 1.0, 0.0, lambda agrees: None)

    async def ask(self) -> int:
        """The process that answered a request of a caller."""
        call = Call("open_inference", "/v2/models/{name}/infer", "id-1")
        call.given = self.primary
        sent = InferenceRequest([Tensor("x", "FP64", [1], bytes(8))], id="id-1")
        response = await self.calls.submit(call, self.primary, sent, None)
        self.calls.answered(call, 200, 8)
        return int(np.frombuffer(response.outputs[0].data, np.int64)[0])

    async def until(self, condition: Callable[[ShadowCounts], bool]) -> None:
        """Ask, four at a time, until the counters of the shadow are as wanted."""
        counts = self.shadow.metrics.shadow
        assert counts is not None
        (first,) = self.pids(self.primary)
        async with asyncio.timeout(PATIENCE):
            while not condition(counts):
                answers = await asyncio.gather(*(self.ask() for _ in range(4)))
                assert set(answers) == {first}

    def pids(self, model: ServedModel) -> list[int]:
        """The workers that hold a model."""
        return [pid for pool in self.placement.pools if pool.is_up(model.key) for pid in pool.pids]

    async def close(self) -> None:
        self.shadows.close()
        await self.repository.close()


def run(folder: Path, body: str, test: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    (folder / "shadowed.py").write_text(SOURCE.format(body=body))

    async def main() -> None:
        world = World(folder)
        try:
            await test(world)
        finally:
            await world.close()

    asyncio.run(main())


def test_a_shadow_runs_in_a_worker_apart(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.begin()
        await world.until(lambda counts: counts.compared >= 20)

        # Their processes are their answers, so no two of them are equal.
        counts = world.shadow.metrics.shadow
        assert counts is not None
        assert counts.disagreed == counts.compared
        assert counts.errors == {}

    run(tmp_path, "pass", test)


def test_a_shadow_whose_worker_is_killed_comes_back(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.begin()
        for _ in range(3):
            (pid,) = world.pids(world.shadow)
            os.kill(pid, signal.SIGKILL)
            await world.until(lambda counts: pid not in world.pids(world.shadow))  # noqa: B023
            await world.until(lambda counts: len(world.pids(world.shadow)) == 1)
        counts = world.shadow.metrics.shadow
        assert counts is not None
        before = counts.compared
        await world.until(lambda counts: counts.compared > before)

        assert world.placement.restarts == 3

    run(tmp_path, "pass", test)


@pytest.mark.parametrize(
    ("body", "kind", "infer_timeout"),
    [
        (KILLS_ITSELF, "poisoned", 600.0),
        (RAISES, "model_error", 600.0),
        (HANGS, "deadline_exceeded", 2.0),
    ],
    ids=["kills itself", "raises", "hangs"],
)
def test_a_shadow_that_fails_every_copy_fails_no_request(
    body: str, kind: str, infer_timeout: float, tmp_path: Path
) -> None:
    async def test(world: World) -> None:
        await world.begin(infer_timeout=infer_timeout)
        await world.until(lambda counts: counts.errors.get(kind, 0) >= 1)
        await world.until(lambda counts: sum(counts.dropped.values()) >= 10)

        assert world.primary.metrics.failures == {}

    run(tmp_path, body, test)
