"""Shared memory for large tensors: what is placed stays intact, what is freed is reused."""

from __future__ import annotations

import mmap
import os
import resource
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.protocol.large_buffers import THRESHOLD
from headrace.worker.arena import KEPT, PARTS, SIZE, SUPPORTED, Arena

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="needs memory files")

PAGE = mmap.PAGESIZE


def arena(size: int) -> Arena:
    fd = Arena.create_file(size)
    try:
        return Arena(fd)
    finally:
        os.close(fd)


def tensors() -> Iterator[bytes]:
    """Contents that all differ."""
    for number in range(256):
        yield bytes([number]) * THRESHOLD


def test_a_freed_place_of_exactly_the_right_size_is_reused() -> None:
    full = arena(3 * THRESHOLD)
    first, middle, last = (full.place(data) for _, data in zip(range(3), tensors(), strict=False))
    assert full.place(bytes(THRESHOLD)) is None
    full.free(middle)

    assert full.place(bytes(THRESHOLD)) == middle
    assert full.fetch(first, 1) + full.fetch(last, 1) == b"\x00\x02"


def test_small_tensors_are_not_placed() -> None:
    assert arena(THRESHOLD).place(bytes(THRESHOLD - 1)) is None


@given(st.lists(st.integers(0, 9), max_size=40))
def test_placing_and_freeing_never_change_other_tensors(steps: list[int]) -> None:
    """Each step frees the place with that number, if there is one, or places another tensor."""
    shared = arena(6 * THRESHOLD)
    placed: list[tuple[int, bytes]] = []
    contents = tensors()
    for step in steps:
        if step < len(placed):
            shared.free(placed.pop(step)[0])
        else:
            data = next(contents) + bytes(step * PAGE // 2)
            offset = shared.place(data)
            if offset is not None:
                placed.append((offset, data))
        assert all(shared.fetch(offset, len(data)) == data for offset, data in placed)
    for offset, _ in placed:
        shared.free(offset)

    assert shared.place(bytes(6 * THRESHOLD)) == 0


def test_only_the_pages_at_the_start_stay_when_they_are_freed() -> None:
    shared = arena(KEPT + THRESHOLD)
    for offset in (shared.place(b"\1" * KEPT), shared.place(b"\2" * THRESHOLD)):
        assert offset is not None
        shared.free(offset)
    assert shared.fetch(0, 1) == b"\1"
    assert shared.fetch(KEPT, 1) == b"\0"


def test_a_view_shows_what_is_placed_and_one_that_is_only_read_cannot_change_it() -> None:
    fd = Arena.create_file(THRESHOLD)
    with open(fd, "rb"):
        shared, read = Arena(fd), Arena(fd, writable=False)
    offset = shared.place(b"\7" * THRESHOLD)
    assert offset is not None
    view = read.view(offset, THRESHOLD)

    assert view.tobytes() == b"\7" * THRESHOLD
    assert not view.flags.writeable


def test_a_file_takes_a_small_part_of_a_limited_address_space(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = 4000 * 1024 * 1024
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))

    assert 0 < arena(SIZE).size <= limit / PARTS
    assert arena(PAGE).size == PAGE
