"""One streamed answer on its way to the front process, as fast as the front takes it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import closing
from typing import Any, Callable

from headrace.protocol.messages import InferenceResponse
from headrace.runners.current_call import EndpointCall
from headrace.runners.loop_inbox import LoopInbox

# Pieces that may be on their way before the front has taken the first.
WINDOW = 16


class Stream:
    """Sends pieces while the front grants them; each piece that is taken grants another.

    So a caller who reads slowly slows the model down, and no queue grows.
    """

    def __init__(self, send: Callable[[InferenceResponse], None], call: EndpointCall) -> None:
        self._send = send
        self.call = call
        self._grants = threading.Semaphore(WINDOW)
        self._is_withdrawn = False

    def grant(self) -> None:
        """Allow one more piece."""
        self._grants.release()

    def withdraw(self) -> None:
        """Stop at the next piece, or while a coroutine waits; nobody takes them any more."""
        self._is_withdrawn = True
        self.call.cancel()
        self._grants.release()

    def run(self, pieces: Generator[Any, None, None]) -> None:
        """Send every piece; raises what the model raises."""
        with closing(pieces):
            for piece in pieces:
                self._grants.acquire()
                if self._is_withdrawn:
                    return
                self._send(piece)


class LoopStream:
    """The same for a concurrent model, which awaits where a `Stream` blocks."""

    def __init__(self, send: Callable[[InferenceResponse], None], call: EndpointCall) -> None:
        self._send = send
        self._call = call
        self._free = WINDOW
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: asyncio.Future[None] | None = None

    async def put(self, piece: InferenceResponse) -> None:
        """Send a piece, once the front has room for it."""
        self._loop = asyncio.get_running_loop()
        while not self._free:
            self._waiting = self._loop.create_future()
            await self._waiting
        self._free -= 1
        self._send(piece)

    def grant(self) -> None:
        """Allow one more piece. Any thread."""
        assert self._loop is not None, "a piece was taken, so one was sent"
        LoopInbox.of(self._loop).post(self._grant)

    def withdraw(self) -> None:
        """End the call: nobody takes its pieces any more."""
        self._call.cancel()

    def _grant(self) -> None:
        self._free += 1
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
