"""The pace of scoring a file, in virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.client.batch import Batch, Outcome
from headrace.client.client_errors import InvalidRequest
from headrace.client.file_scoring import Job, _in_order, _Scorer
from headrace.client.input_files import InputFile
from headrace.client.reasons import Reasons
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor
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
    job = Job("http://nowhere", "m", InputFile(Path("in.csv")), Path("out"), **pace)

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


class Counted(_Scorer):
    """Refuses batches that hold a negative number, and counts what is sent."""

    sent = 0

    async def _outcome(self, batch: Batch) -> Outcome:
        self.sent += 1
        numbers = np.frombuffer(batch.request.inputs[0].data, "<f8")
        if (numbers < 0).any():
            raise InvalidRequest("negative")
        return Outcome(batch)


def divided(numbers: list[float]) -> tuple[int, list[int]]:
    """How many requests a batch of these numbers costs, and which of them failed."""
    job = Job("http://nowhere", "m", InputFile(Path("in.csv")), Path("out"), keep_going=True)
    scorer = Counted(job, None, True, Reasons())  # type: ignore[arg-type]
    tensor = Tensor("x", "FP64", [len(numbers)], np.array(numbers, "<f8").tobytes())
    count = len(numbers)
    batch = Batch(0, [1] * count, InferenceRequest([tensor]), [""] * count)
    outcomes = asyncio.run(scorer.outcomes(batch))
    assert [at for each in outcomes for at in _places(each)] == list(range(count))
    failed = [each for each in outcomes if each.error is not None]
    return scorer.sent, [at for each in failed for at in _places(each)]


def _places(outcome: Outcome) -> range:
    return range(outcome.batch.start, outcome.batch.start + len(outcome.batch.rows))


def test_one_bad_row_among_many_is_found_by_halving() -> None:
    sent, failed = divided([-1.0 if at == 700 else 1.0 for at in range(1000)])

    assert failed == [700]
    assert sent < 30


def test_rows_that_all_fail_cost_about_one_request_each() -> None:
    sent, failed = divided([-1.0] * 1000)

    assert len(failed) == 1000
    assert sent < 1050


def test_bad_rows_all_over_cost_little_more_than_one_request_each() -> None:
    sent, failed = divided([-1.0 if at % 2 else 1.0 for at in range(1000)])

    assert failed == list(range(1, 1000, 2))
    assert sent < 1050


def test_halving_pays_again_after_the_bad_rows() -> None:
    sent, failed = divided([-1.0 if at < 100 or at == 900 else 1.0 for at in range(1024)])

    assert failed == [*range(100), 900]
    assert sent < 250
