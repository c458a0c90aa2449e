"""Fixtures for the tests of executors."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from headrace.executors.process import WorkerProcess
from support import virtual_time
from support.fake_workers import World


@pytest.fixture
def world_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(test: Callable[[World], Coroutine[Any, Any, None]], size: int = 1) -> None:
        async def body() -> None:
            world = World(size)
            monkeypatch.setattr(WorkerProcess, "spawn", world.spawn)
            await test(world)
            await world.pool.stop()

        virtual_time.run(body())

    return run
