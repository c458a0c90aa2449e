"""Reads and writes a worker's socket on an event loop, for models that live on one.

A thread that does it for a loop passes every frame from thread to thread, and both wait for the
interpreter's lock: docs/decisions/0018.
"""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from contextlib import suppress
from typing import Callable

# Seconds after which the thread reads and writes what a loop leaves: user code on it may wait for
# something that only a frame can bring.
PATIENCE = 0.05


class LoopReader:
    """Has a loop call `read` when the socket is readable, until `read` or `stop` ends it.

    `read` takes what is there without waiting; it returns False at the end. It is never called
    by two threads at once. `write` sends what there is to send.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        read: Callable[[], bool],
        write: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._loop = loop
        self._read = read
        self._write = write
        self._will_write = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._calls = 0
        self._thread = 0

    def write_soon(self) -> None:
        """Write on the loop, with everything else that this turn of it sends. Any thread. Hot."""
        if self._will_write:
            return
        self._will_write = True
        if self._thread == threading.get_ident():
            self._loop.call_soon(self._write_now)
        else:
            # A loop that is closed writes nothing any more.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._write_now)

    def run(self) -> None:
        """Wait until the reading has ended; read and write here while the loop does not."""
        # It was stopped before, if the loop is closed.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.add_reader, self._sock, self._on_readable)
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        seen = -1
        while not self._ended.wait(PATIENCE):
            is_readable = bool(poll.poll(0))
            if is_readable and seen == self._calls:
                self._read_now()
            seen = self._calls if is_readable else -1
            self._write_now()
        # A read that the loop has begun is finished before anybody else reads.
        with self._lock:
            pass

    def stop(self) -> None:
        """Let go of the loop; the caller of `run` reads on."""
        self._ended.set()
        self._loop.call_soon_threadsafe(self._loop.remove_reader, self._sock)

    def _on_readable(self) -> None:
        self._calls += 1
        self._thread = threading.get_ident()
        self._read_now()
        if self._ended.is_set():
            self._loop.remove_reader(self._sock)

    def _write_now(self) -> None:
        # Before anything is taken: what is to be sent from here on is written again.
        self._will_write = False
        self._write()

    def _read_now(self) -> None:
        if not self._lock.acquire(blocking=False):
            return
        try:
            if not self._ended.is_set() and not self._read():
                self._ended.set()
        finally:
            self._lock.release()
