"""One streamed answer on its way to the front process, as fast as the front takes it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Generator
from contextlib import closing
from functools import partial
from typing import Any, Callable

from headrace.protocol.messages import InferenceResponse
from headrace.runners.current_call import EndpointCall
from headrace.runners.loop_inbox import LoopInbox

# Pieces that may be on their way before the front has taken the first, and bytes of them after
# which no further one is sent: the front holds them all, and restores those that come together in
# one turn of its event loop.
WINDOW = 16
WINDOW_BYTES = 8 * 1024 * 1024
# The front grants pieces together, once it has taken so many of them or so many bytes. Less than
# the window, or both sides would wait.
GRANTED_TOGETHER = WINDOW // 2
GRANTED_BYTES = WINDOW_BYTES // 8


class Window:
    """The pieces of one stream that are on their way, by their bytes."""

    def __init__(self) -> None:
        self._sizes: deque[int] = deque()
        self._bytes = 0

    @property
    def has_room(self) -> bool:
        return len(self._sizes) < WINDOW and self._bytes < WINDOW_BYTES

    def send(self, size: int) -> None:
        """Count a piece that is sent."""
        self._sizes.append(size)
        self._bytes += size

    def take(self, pieces: int) -> None:
        """Forget the oldest pieces, which the front has taken."""
        for _ in range(min(pieces, len(self._sizes))):
            self._bytes -= self._sizes.popleft()


class Taken:
    """On the front's side: the pieces that were taken and not granted yet."""

    def __init__(self) -> None:
        self._pieces = self._bytes = 0

    def add(self, size: int) -> int:
        """Count a piece that was taken; returns how many to grant now, mostly 0."""
        self._pieces += 1
        self._bytes += size
        if self._pieces < GRANTED_TOGETHER and self._bytes < GRANTED_BYTES:
            return 0
        pieces, self._pieces, self._bytes = self._pieces, 0, 0
        return pieces


class Stream:
    """Sends pieces while the window has room; those that the front has taken make some.

    So a caller who reads slowly slows the model down, and no queue grows.
    """

    def __init__(self, send: Callable[[InferenceResponse], None], call: EndpointCall) -> None:
        self._send = send
        self.call = call
        self._window = Window()
        self._changed = threading.Condition()
        self._is_withdrawn = False

    def grant(self, pieces: int = 1) -> None:
        """Allow as many more pieces."""
        with self._changed:
            self._window.take(pieces)
            self._changed.notify()

    def withdraw(self) -> None:
        """Stop at the next piece, or while a coroutine waits; nobody takes them any more."""
        self.call.cancel()
        with self._changed:
            self._is_withdrawn = True
            self._changed.notify()

    def run(self, pieces: Generator[Any, None, None]) -> None:
        """Send every piece; raises what the model raises."""
        with closing(pieces):
            for piece in pieces:
                with self._changed:
                    while not self._window.has_room and not self._is_withdrawn:
                        self._changed.wait()
                    if self._is_withdrawn:
                        return
                    self._window.send(piece.nbytes)
                self._send(piece)


class LoopStream:
    """The same for a concurrent model, which awaits where a `Stream` blocks."""

    def __init__(self, send: Callable[[InferenceResponse], None], call: EndpointCall) -> None:
        self._send = send
        self._call = call
        self._window = Window()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: asyncio.Future[None] | None = None

    async def put(self, piece: InferenceResponse) -> None:
        """Send a piece, once the front has room for it."""
        self._loop = asyncio.get_running_loop()
        while not self._window.has_room:
            self._waiting = self._loop.create_future()
            await self._waiting
        self._window.send(piece.nbytes)
        self._send(piece)

    def grant(self, pieces: int = 1) -> None:
        """Allow as many more pieces. Any thread."""
        assert self._loop is not None, "a piece was taken, so one was sent"
        LoopInbox.of(self._loop).post(partial(self._grant, pieces))

    def withdraw(self) -> None:
        """End the call: nobody takes its pieces any more."""
        self._call.cancel()

    def _grant(self, pieces: int) -> None:
        self._window.take(pieces)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
