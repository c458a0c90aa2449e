"""One streamed answer: no faster than it is taken, and at an end when nobody takes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from headrace.runners.current_call import EndpointCall
from headrace.worker import streams
from headrace.worker.streams import WINDOW, WINDOW_BYTES, Stream, Taken, Window


def call() -> EndpointCall:
    """The call that a stream is the answer to; it asks nobody."""
    return EndpointCall(cast(Any, None), None, "")


class WouldWaitError(Exception):
    """A stream asked for leave to send a piece and did not have it."""


class Changed:
    """A condition that says so where a thread would wait."""

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...

    def notify(self) -> None: ...

    def wait(self) -> None:
        raise WouldWaitError


@pytest.fixture
def never_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams.threading, "Condition", Changed)


class Piece(int):
    """A piece that is only a number."""

    nbytes = 0


class Large(Piece):
    nbytes = WINDOW_BYTES // 2


class Pieces:
    """Numbers without end; what was made of them and whether they were closed."""

    def __init__(self, kind: type[Piece] = Piece) -> None:
        self._kind = kind
        self.made = 0
        self.are_closed = False

    def __iter__(self) -> Iterator[int]:
        try:
            while True:
                self.made += 1
                yield self._kind(self.made)
        finally:
            self.are_closed = True


def test_no_more_pieces_are_sent_than_the_window_holds(never_waiting: None) -> None:
    sent: list[int] = []
    pieces = Pieces()
    with pytest.raises(WouldWaitError):
        Stream(sent.append, call()).run(iter(pieces))

    assert sent == list(range(1, WINDOW + 1))
    # One more was made, and waits for its leave.
    assert pieces.made == WINDOW + 1


def test_no_more_pieces_are_sent_once_their_bytes_fill_the_window(never_waiting: None) -> None:
    sent: list[int] = []
    with pytest.raises(WouldWaitError):
        Stream(sent.append, call()).run(iter(Pieces(Large)))

    assert sent == [1, 2]


def test_small_pieces_are_granted_together_and_large_ones_at_once() -> None:
    small, large = Taken(), Taken()

    assert [small.add(1) for _ in range(9)] == [0] * 7 + [8, 0]
    assert [large.add(WINDOW_BYTES) for _ in range(2)] == [1, 1]


@pytest.mark.parametrize("size", [0, 1, 2**16, 2**20 - 1, 2**20, 2**23 - 1, 2**23, 2**26])
def test_there_is_room_again_once_all_that_was_sent_is_taken(size: int) -> None:
    window, taken = Window(), Taken()
    for _ in range(100):
        sent = 0
        while window.has_room:
            window.send(size)
            sent += 1
        assert sent
        for _ in range(sent):
            window.take(taken.add(size))


def test_each_piece_that_is_taken_lets_one_more_go(never_waiting: None) -> None:
    sent: list[int] = []

    def take(piece: int) -> None:
        sent.append(piece)
        if piece <= 3:
            stream.grant()

    stream = Stream(take, call())
    with pytest.raises(WouldWaitError):
        stream.run(iter(Pieces()))

    assert len(sent) == WINDOW + 3


def test_a_stream_that_is_withdrawn_sends_no_further_piece(never_waiting: None) -> None:
    sent: list[int] = []

    def take(piece: int) -> None:
        sent.append(piece)
        if piece == 2:
            stream.withdraw()

    stream, pieces = Stream(take, call()), Pieces()
    stream.run(iter(pieces))

    assert sent == [1, 2]
    assert pieces.are_closed


def test_a_stream_that_waits_for_leave_ends_when_it_is_withdrawn() -> None:
    sent: list[int] = []
    window_is_full = threading.Event()

    def take(piece: int) -> None:
        sent.append(piece)
        if piece == WINDOW:
            window_is_full.set()

    stream, pieces = Stream(take, call()), Pieces()
    running = threading.Thread(target=stream.run, args=(iter(pieces),), daemon=True)
    running.start()
    assert window_is_full.wait(20)
    stream.withdraw()
    running.join(20)

    assert not running.is_alive()
    assert (len(sent), pieces.are_closed) == (WINDOW, True)


def test_what_a_model_raises_comes_after_the_pieces_before_it() -> None:
    def pieces() -> Iterator[int]:
        yield Piece(1)
        raise ValueError("no")

    sent: list[int] = []
    with pytest.raises(ValueError, match="no"):
        Stream(sent.append, call()).run(pieces())

    assert sent == [1]


def test_a_piece_that_cannot_be_sent_ends_the_model_too() -> None:
    def refuse(piece: int) -> None:
        raise ValueError("not this one")

    pieces = Pieces()
    with pytest.raises(ValueError, match="not this one"):
        Stream(refuse, call()).run(iter(pieces))

    assert (pieces.made, pieces.are_closed) == (1, True)
