"""Answers in a worker's memory: small ones are copied, large ones are read where they are."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from headrace.executors.placed_answers import IN_PLACE, PlacedAnswers
from headrace.worker.arena import SUPPORTED, Arena

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="this system has no memory files")


class Placed:
    """What a worker has placed, and what it was told that it may free."""

    def __init__(self) -> None:
        fd = Arena.create_file(4 * IN_PLACE)
        self.arena = Arena(fd)
        os.close(fd)
        self.released: list[int] = []
        loop = asyncio.get_running_loop()
        self.answers = PlacedAnswers(self.arena, loop, self.released.extend)

    def place(self, data: bytes) -> int:
        offset = self.arena.place(data)
        assert offset is not None
        return offset


def placed(test: Callable[[Placed], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            await test(Placed())

        asyncio.run(main())

    run.__name__ = test.__name__
    return run


@placed
async def test_a_small_one_is_copied_and_released_when_asked(placed: Placed) -> None:
    offset = placed.place(b"a" * (IN_PLACE - 1))
    found = placed.answers.fetch(offset, IN_PLACE - 1)
    placed.answers.release_copied()
    placed.answers.release_copied()

    assert found == b"a" * (IN_PLACE - 1)
    assert placed.released == [offset]


@placed
async def test_a_large_one_is_released_once_nothing_reads_it(placed: Placed) -> None:
    offset = placed.place(b"a" * IN_PLACE)
    found: Any = placed.answers.fetch(offset, IN_PLACE)
    part: Any = memoryview(found)[1:2]
    placed.answers.release_copied()
    del found
    await asyncio.sleep(0)
    assert (placed.released, bytes(part)) == ([], b"a")
    del part
    await asyncio.sleep(0)

    assert placed.released == [offset]


@placed
async def test_a_large_one_can_only_be_read(placed: Placed) -> None:
    found = memoryview(placed.answers.fetch(placed.place(b"a" * IN_PLACE), IN_PLACE))

    assert found.readonly


@placed
async def test_a_large_one_outlives_its_worker(placed: Placed) -> None:
    found = memoryview(placed.answers.fetch(placed.place(b"a" * IN_PLACE), IN_PLACE))
    placed.answers.close()

    assert found[-1:] == b"a"
