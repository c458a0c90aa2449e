"""Models of users that work on several requests at once, in real worker processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.executors.pool import WorkerPool
from headrace.settings import ModelSettings
from support.pool import answer, request, run

TOGETHER = 3
# `predict` returns how many requests the model worked on at most, and -1 from another loop.
SOURCE = f"""
import asyncio, threading
import numpy as np
from headrace import Model

class Coroutines(Model):
    here = most = 0

    async def load(self):
        self.loop = asyncio.get_running_loop()
        self.all_here = asyncio.Event()

    async def predict(self, x: np.ndarray) -> np.ndarray:
        self.here += 1
        self.most = max(self.most, self.here)
        if self.here == {TOGETHER}:
            self.all_here.set()
        await self.all_here.wait()
        self.here -= 1
        is_same = asyncio.get_running_loop() is self.loop
        return np.array([float(self.most) if is_same else -1.0])

class Threads(Model):
    def load(self):
        self.barrier = threading.Barrier({TOGETHER})
        self.lock = threading.Lock()
        self.here = self.most = 0

    def predict(self, x: np.ndarray) -> np.ndarray:
        with self.lock:
            self.here += 1
            self.most = max(self.most, self.here)
        self.barrier.wait(60)
        with self.lock:
            self.here -= 1
        return np.array([float(self.most)])
"""


def settings(folder: Path, name: str) -> ModelSettings:
    (folder / "users.py").write_text(SOURCE)
    implementation = f"users:{name}"
    return ModelSettings(name, implementation, folder=str(folder), max_concurrency=TOGETHER)


@pytest.mark.parametrize("name", ["Coroutines", "Threads"])
def test_as_many_requests_run_at_once_as_the_settings_say(tmp_path: Path, name: str) -> None:
    async def test(pool: WorkerPool) -> None:
        metadata = await pool.load("m", settings(tmp_path, name))
        assert metadata.concurrency == TOGETHER
        deadline = asyncio.get_running_loop().time() + 60
        asked = [pool.infer("m", request(1.0), deadline) for _ in range(2 * TOGETHER)]
        answers = await asyncio.gather(*asked)

        assert {answer(each)[0] for each in answers} == {TOGETHER}

    run(test)


def test_a_model_is_not_asked_for_several_at_once_unless_it_is_told(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        (tmp_path / "users.py").write_text(SOURCE)
        plain = ModelSettings("m", "users:Threads", folder=str(tmp_path))

        assert (await pool.load("m", plain)).concurrency == 1

    run(test)
