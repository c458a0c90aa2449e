"""Lanes, whose threads read what arrives while they have nothing else to do."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for

import pytest

from headrace.worker.frames import Frame, Kind
from headrace.worker.lanes import FOR_OTHERS, Lane, SocketWait

pytestmark = pytest.mark.skipif(not SocketWait.SUPPORTED, reason="epoll is Linux's")
FRAME, OTHER = (Frame(Kind.INFER, call, {}, b"") for call in (1, 2))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def in_thread() -> Iterator[Callable[..., Future[object]]]:
    with ThreadPoolExecutor() as pool:
        yield pool.submit


class Wait(SocketWait):
    """One that says when it is waited for, as far as Python can tell."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.begun = threading.Event()

    def wait(self) -> bool:
        self.begun.set()
        return super().wait()


def test_an_arrival_wakes_somebody_and_the_others_can_be_woken(pair, in_thread) -> None:
    ours, theirs = pair
    waits = [Wait(theirs) for _ in range(3)]
    waiting = [in_thread(wait.wait) for wait in waits]
    ours.send(b"x")
    wait_for(waiting, return_when=FIRST_COMPLETED)
    theirs.recv(1)
    for wait in waits:
        wait.wake()

    readable = [each.result() for each in waiting]
    assert True in readable
    for wait in waits:
        wait.close()


def test_what_arrives_while_nobody_waits_ends_the_next_wait(pair) -> None:
    ours, theirs = pair
    wait = SocketWait(theirs)
    wait.come_last()
    ours.send(b"x")
    assert wait.wait()
    theirs.recv(1)
    wait.wake()
    assert not wait.wait()
    wait.close()


def test_a_wait_ends_when_the_other_side_leaves(pair) -> None:
    ours, theirs = pair
    wait = SocketWait(theirs)
    ours.close()
    assert wait.wait()
    wait.close()


def test_a_lane_with_nothing_to_do_reads_and_takes_what_it_read(pair) -> None:
    ours, theirs = pair
    lane = Lane()
    lane.read_from(SocketWait(theirs))

    def read() -> None:
        theirs.recv(1)
        lane.put(FRAME)

    ours.send(b"x")
    assert lane.get(read) is FRAME
    lane.close()


def test_a_lane_that_waits_to_read_takes_what_others_put(pair, in_thread) -> None:
    _, theirs = pair
    lane, wait = Lane(), Wait(theirs)
    lane.read_from(wait)
    taken = in_thread(lane.get, pytest.fail)
    wait.begun.wait()
    lane.put(FRAME)
    assert taken.result() is FRAME
    lane.put(OTHER)
    assert lane.get(pytest.fail) is OTHER
    lane.close()


def test_a_lane_that_stops_reading_still_takes_what_is_put(pair, in_thread) -> None:
    ours, theirs = pair
    lane, wait = Lane(), Wait(theirs)
    lane.read_from(wait)
    # It may be woken by what arrives, before it sees that it is to stop.
    taken = in_thread(lane.get, lambda: theirs.recv(1))
    wait.begun.wait()
    lane.stop_reading()
    ours.send(b"x")
    lane.put(None)
    assert taken.result() is None
    lane.close()


def test_a_lane_reads_for_others_if_nothing_was_for_itself_for_a_while(pair) -> None:
    _, theirs = pair
    lane = Lane()
    lane.read_from(SocketWait(theirs))
    for _ in range(FOR_OTHERS - 1):
        assert not lane.reads_for_others()
    lane.put(FRAME)
    assert not lane.reads_for_others()
    lane.get(pytest.fail)

    assert [lane.reads_for_others() for _ in range(FOR_OTHERS)] == [False] * (FOR_OTHERS - 1) + [
        True
    ]
    lane.come_last()
    assert not lane.reads_for_others()
    lane.close()


def test_waking_a_closed_wait_writes_to_nobody_elses_descriptor(pair) -> None:
    ours, theirs = pair
    wait = SocketWait(theirs)
    wait.close()
    # These get the numbers that the wait has given back.
    pipes = [os.pipe() for _ in range(2)]
    wait.wake()

    for reading, writing in pipes:
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):
            os.read(reading, 1)
        os.close(reading)
        os.close(writing)
