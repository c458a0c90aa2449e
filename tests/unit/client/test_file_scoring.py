"""The pace of scoring a file, in virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headrace.client.file_scoring import Job, _in_order
from support import virtual_time


class Scorer:
    """Answers every batch after a second, and records when each began."""

    def __init__(self) -> None:
        self.begun: list[float] = []

    async def outcomes(self, batch: Any) -> list[Any]:
        self.begun.append(asyncio.get_running_loop().time())
        await asyncio.sleep(1)
        return [batch]


def begun(batches: int, **pace: Any) -> list[float]:
    """When each of the batches began."""
    job = Job("http://nowhere", "m", Path("in"), Path("out"), **pace)

    async def main() -> list[float]:
        scorer: Any = Scorer()
        answers = [outcome async for outcome in _in_order(iter(range(batches)), scorer, job)]  # type: ignore[arg-type]
        assert answers == [[number] for number in range(batches)]
        return list(scorer.begun)

    return virtual_time.run(main())


def test_one_worker_begins_a_batch_when_the_last_is_answered() -> None:
    assert begun(3, workers=1) == [0, 1, 2]


def test_a_worker_keeps_its_interval_between_batches() -> None:
    assert begun(3, workers=1, interval=5) == [0, 5, 10]


def test_the_interval_counts_from_the_beginning_of_a_batch() -> None:
    assert begun(3, workers=1, interval=0.5) == [0, 1, 2]


def test_each_worker_has_an_interval_of_its_own() -> None:
    assert begun(5, workers=5, interval=60) == [0, 0, 0, 0, 0]


def test_the_jitter_adds_a_random_pause() -> None:
    first, second, third = begun(3, workers=1, interval=5, jitter=2)

    assert first == 0
    assert 5 <= second <= 7
    assert second + 5 <= third <= second + 7
    assert second != pytest.approx(5)
