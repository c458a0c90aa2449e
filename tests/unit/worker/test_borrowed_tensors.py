"""What a model reads in place: the front learns what it keeps, and when that may go."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable

import numpy as np
import pytest

from headrace.protocol.large_buffers import THRESHOLD
from headrace.worker import frames
from headrace.worker.arena import SUPPORTED, Arena
from headrace.worker.borrowed_tensors import BorrowedTensors
from headrace.worker.frames import Kind

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="needs memory files")


class Borrower:
    """A worker's side, and what it says to the front, which has two large tensors."""

    def __init__(self) -> None:
        fd = Arena.create_file(2 * THRESHOLD)
        with open(fd, "rb"):
            self.front = Arena(fd)
            arena = Arena(fd, writable=False)
        for byte in (b"a", b"b"):
            self.front.place(byte * THRESHOLD)
        self.sent: list[bytes] = []
        self.wakes = 0
        self.tensors = BorrowedTensors(arena, self.sent.append, self._wake, most=THRESHOLD)

    def _wake(self) -> None:
        self.wakes += 1

    def borrow(self, call: int, offset: int = 0) -> memoryview:
        data = self.tensors.borrow(call, offset, THRESHOLD)
        return memoryview(data)

    def said(self) -> list[tuple[Kind, int, list[int]]]:
        """The frames since the last time."""
        found = []
        for each in self.sent:
            kind, call, size, _ = frames.parse_header(each)
            meta = each[frames.HEADER.size :][:size]
            found.append((Kind(kind), call, json.loads(meta)))
        self.sent.clear()
        return found


@pytest.fixture
def borrower() -> Borrower:
    return Borrower()


def test_a_tensor_is_read_where_the_front_has_it_and_cannot_be_changed(borrower: Borrower) -> None:
    data = borrower.borrow(1)
    borrower.front.view(0, 1)[0] = ord("z")

    assert data[:2] == b"za"
    assert data.readonly


def test_nothing_is_said_of_a_tensor_that_is_gone_when_its_call_ends(borrower: Borrower) -> None:
    borrower.borrow(1)
    borrower.tensors.end(1)
    borrower.tensors.give_back()

    assert (borrower.said(), borrower.wakes) == ([], 0)


def test_a_part_of_a_tensor_keeps_it_until_that_is_gone(borrower: Borrower) -> None:
    row = np.frombuffer(borrower.borrow(1), np.float64).reshape(-1, 8)[3:4]
    borrower.tensors.end(1)
    assert borrower.said() == [(Kind.KEEP, 1, [0])]
    borrower.tensors.give_back()
    assert borrower.said() == []
    del row
    borrower.tensors.give_back()

    assert borrower.wakes == 1
    assert borrower.said() == [(Kind.RELEASE, 0, [0])]


def test_what_two_calls_keep_of_the_same_tensor_is_released_twice(borrower: Borrower) -> None:
    borrower.tensors._most = 2 * THRESHOLD
    kept = [borrower.borrow(1), borrower.borrow(2)]
    borrower.tensors.end(1)
    borrower.tensors.end(2)
    kept.clear()
    borrower.tensors.give_back()

    assert [each[0] for each in borrower.said()[:2]] == [Kind.KEEP, Kind.KEEP]
    assert borrower.tensors._kept == {}


def test_beyond_its_bound_a_worker_copies_so_that_keeping_takes_none_of_the_fronts_memory(
    borrower: Borrower,
) -> None:
    first, second = borrower.borrow(1), borrower.borrow(2, THRESHOLD)
    borrower.tensors.end(1)
    borrower.tensors.end(2)
    borrower.front.view(THRESHOLD, 1)[0] = ord("z")

    assert second.tobytes() == b"b" * THRESHOLD
    assert borrower.said() == [(Kind.KEEP, 1, [0])]
    assert first[0] == ord("a")


def test_there_is_room_again_once_what_was_kept_has_gone(borrower: Borrower) -> None:
    first = borrower.borrow(1)
    borrower.tensors.end(1)
    del first
    second = borrower.borrow(2, THRESHOLD)
    borrower.tensors.end(2)

    said = borrower.said()
    assert said == [(Kind.KEEP, 1, [0]), (Kind.RELEASE, 0, [0]), (Kind.KEEP, 2, [THRESHOLD])]
    assert second[0] == ord("b")


def test_a_tensor_that_goes_while_its_call_ends_is_released_after_it_was_kept(
    borrower: Borrower,
) -> None:
    """The garbage collector runs in any thread at any moment, here as the call ends."""
    kept: list[object] = [borrower.borrow(1)]
    kept.append(kept)
    send: Callable[[bytes], None] = borrower.sent.append

    def interrupted(frame: bytes) -> None:
        send(frame)
        kept.clear()
        gc.collect()

    borrower.tensors._send = interrupted
    borrower.tensors.end(1)
    borrower.tensors.give_back()

    assert [each[0] for each in borrower.said()] == [Kind.KEEP, Kind.RELEASE]
