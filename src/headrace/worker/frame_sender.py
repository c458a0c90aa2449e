"""Sends the frames of a worker, whichever thread they come from."""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections import deque

logger = logging.getLogger("headrace.worker")


class FrameSender:
    """Sends what is queued, in order. Thread-safe."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unsent: deque[bytes] = deque()
        self._lock = threading.Lock()
        # Queues one frame, for a `flush` to come.
        self.queue = self._unsent.append

    def flush(self) -> None:
        """Send everything that is queued. Any thread."""
        unsent = self._unsent
        with self._lock:
            # Whoever queues a frame meanwhile sends it.
            data = b"".join([unsent.popleft() for _ in range(len(unsent))])
            if data:
                try:
                    self._send_all(data)
                except ConnectionError:
                    logger.debug("the front process left before its answer")

    def _send_all(self, data: bytes) -> None:
        """Send bytes, and wait for room. `sendall` cannot: uvloop makes a socket non-blocking."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                wait_until(self._sock, select.POLLOUT)


def wait_until(sock: socket.socket, event: int) -> None:
    """Wait for an event of poll(2)."""
    # Not `select`, which takes no descriptor above 1,023.
    poll = select.poll()
    poll.register(sock, event)
    poll.poll()
