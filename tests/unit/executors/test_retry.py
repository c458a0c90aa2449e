"""When a load that failed is tried again, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from headrace.executors.executor import WorkerLost
from headrace.executors.retry import FIRST_PAUSE, LONGEST_PAUSE, Retry, pause_after
from support import virtual_time


@pytest.mark.parametrize("failures", [1, 2, 3, 10, 100_000])
def test_a_pause_is_at_most_twice_the_last_one_and_never_longer_than_the_longest(
    failures: int,
) -> None:
    whole = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 32))

    assert whole / 2 <= pause_after(failures, FIRST_PAUSE) <= whole


def test_the_first_failure_is_tried_again_at_once_and_later_ones_after_pauses() -> None:
    async def main() -> list[float]:
        retry, pauses = Retry(), []
        for _ in range(12):
            retry.failed("no")
            pauses.append(retry.pause)
            await asyncio.sleep(retry.pause)
        return pauses

    first, *later = virtual_time.run(main())

    assert first == 0
    assert FIRST_PAUSE / 2 <= later[0] <= FIRST_PAUSE
    assert LONGEST_PAUSE / 2 <= later[-1] <= LONGEST_PAUSE


def test_a_failure_says_when_the_next_try_is() -> None:
    async def main() -> list[str]:
        retry = Retry()
        retry.failed("it is broken")
        said = [str(retry)]
        for _ in range(8):
            retry.failed("it is broken")
        said.append(str(retry))
        await asyncio.sleep(LONGEST_PAUSE)
        return [*said, str(retry)]

    at_once, later, due = virtual_time.run(main())

    assert at_once == due == "it is broken; trying again"
    assert later.startswith("it is broken; next try in ")


@pytest.mark.parametrize(
    ("cause", "ended", "killed"),
    [
        (None, False, False),
        (ValueError("x"), False, False),
        (WorkerLost("it died"), True, False),
        (WorkerLost("it was killed", killed=True), True, True),
    ],
    ids=["none", "the model's own", "a death", "a kill"],
)
def test_a_failure_knows_whether_a_worker_ended(
    cause: BaseException | None, ended: bool, killed: bool
) -> None:
    async def main() -> Retry:
        retry = Retry()
        retry.failed("no", cause)
        return retry

    retry = virtual_time.run(main())

    assert (retry.ended_worker, retry.killed) == (ended, killed)
