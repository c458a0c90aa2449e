"""The frames of one model, in order, and how its thread waits for them."""

from __future__ import annotations

import os
import queue
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from headrace.worker.frames import Frame

# Each waiting thread takes three descriptors, of which a process has few.
MOST_READING = 8
# To let others be woken first takes a few system calls, so it is not done for a few frames.
FOR_OTHERS = 16


class SocketWait:
    """Waits for a socket together with other threads, of which each arrival wakes only one.

    The first one that waits is woken, in the order in which they began to; see EPOLLEXCLUSIVE in
    epoll_ctl(2). Only on Linux.
    """

    SUPPORTED = hasattr(select, "EPOLLEXCLUSIVE")

    def __init__(self, sock: socket.socket) -> None:
        self._fd = sock.fileno()
        self._poll = select.epoll()
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)
        self._poll.register(self._woken, select.EPOLLIN)
        self._register()
        # Whoever wakes a wait that has just been closed would write to somebody else's descriptor.
        self._closing = threading.Lock()

    def wait(self) -> bool:
        """Wait until the socket can be read; False if `wake` was called before."""
        ready = [fd for fd, _ in self._poll.poll()]
        if self._woken in ready:
            with suppress(BlockingIOError):
                os.read(self._woken, 4096)
        return self._fd in ready

    def wake(self) -> None:
        """End the present wait, or else the next one; nothing once it is closed. Any thread."""
        # If it is full, it has been woken already.
        with self._closing, suppress(BlockingIOError):
            if not self._poll.closed:
                os.write(self._wake, b"\0")

    def come_last(self) -> None:
        """Let those that wait already be woken first, from now on."""
        self._poll.unregister(self._fd)
        self._register()

    def close(self) -> None:
        """Give the descriptors back."""
        with self._closing:
            self._poll.close()
            os.close(self._woken)
            os.close(self._wake)

    def _register(self) -> None:
        self._poll.register(self._fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)


class Lane:
    """The frames of one model, for its thread to take; None ends it.

    Once it is given a `SocketWait`, a thread that has nothing to do reads what the front sends. If
    that is for its own model, no other thread has to wake up.
    """

    def __init__(self) -> None:
        self._frames: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._wait: SocketWait | None = None
        self._is_waiting = self._is_stopping = False
        self._for_others = 0

    @property
    def reads(self) -> bool:
        """Whether its thread reads from the socket while it has nothing to do."""
        return self._wait is not None

    def reads_for_others(self) -> bool:
        """Whether what its thread has read lately was never for its own model."""
        self._for_others = self._for_others + 1 if self._frames.empty() else 0
        return self._for_others >= FOR_OTHERS

    def come_last(self) -> None:
        """Let the threads of other models be woken first, from now on."""
        self._for_others = 0
        if self._wait is not None:
            self._wait.come_last()

    def put(self, frame: Frame | None) -> None:
        """Add a frame. Any thread."""
        self._frames.put(frame)
        if self._is_waiting and self._wait is not None:
            self._wait.wake()

    def get(self, read: Callable[[], object]) -> Frame | None:
        """Wait for the next frame, and call `read` when the front sends something meanwhile."""
        while self._wait is not None and not self._is_stopping:
            # Before the look: who adds a frame after it wakes this thread.
            self._is_waiting = True
            is_readable = self._frames.empty() and self._wait.wait()
            self._is_waiting = False
            if not self._frames.empty():
                break
            if is_readable:
                read()
        return self._frames.get()

    def read_from(self, wait: SocketWait) -> None:
        """Read from now on. Called by its own thread."""
        self._wait = wait

    def stop_reading(self) -> None:
        """Leave the reading to others. Any thread."""
        self._is_stopping = True
        if self._wait is not None:
            self._wait.wake()

    def close(self) -> None:
        """Give back what it waits with. Called by its own thread, which takes no more frames."""
        wait, self._wait = self._wait, None
        if wait is not None:
            wait.close()
