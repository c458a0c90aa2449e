"""Requests of one stream that are worked on together, with their answers in the right order.

Triton begins each request of a stream as it arrives. Answers of a model that answers once leave
in the order of the requests; those of a decoupled model leave as they come.

Source: Triton's "Decoupled models" and its server's handler of `ModelStreamInfer`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

# Requests of one stream at once; the next one is read when one of them has been answered.
MOST_AT_ONCE = 32

Write = Callable[[bytes], Awaitable[Any]]


class Turn:
    """The place of one request among those of its stream."""

    def __init__(self, before: asyncio.Future[None] | None, write: Write) -> None:
        self._before = before
        self._write = write
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def leave_order(self) -> None:
        """Send the answers of this request as they come; the next one waits for those before."""
        self.end()
        self._before = None

    async def write(self, message: bytes) -> None:
        """Send a message, once those of the requests before have been sent."""
        if self._before is not None:
            # Shielded: a request that ends in the meantime must not end the one before.
            await asyncio.shield(self._before)
        await self._write(message)

    def end(self) -> None:
        """Let the next request send its answers, once those before have."""
        if self._before is None or self._before.done():
            self._let_next()
        else:
            self._before.add_done_callback(lambda _: self._let_next())

    def _let_next(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


# Answers one request, by writing to its turn.
Answer = Callable[[Turn], Coroutine[Any, Any, None]]


class StreamOrder:
    """Begins the requests of a stream, `MOST_AT_ONCE` of them at a time.

    A request that fails must have its error sent by what answers it; whatever is raised ends the
    whole stream.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._writing = asyncio.Lock()
        self._room = asyncio.Semaphore(MOST_AT_ONCE)
        self._last: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: Exception | None = None

    async def begin(self, answer: Answer) -> None:
        """Begin a request, once there is room for it.

        Raises:
            Exception: what an earlier one has raised.
        """
        await self._room.acquire()
        self._raise_failure()
        turn = Turn(self._last, self._write_alone)
        self._last = turn.over
        task = asyncio.ensure_future(self._answered(answer, turn))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Wait until every request has been answered; raises what one of them has raised."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._raise_failure()

    async def cancel(self) -> None:
        """End all requests that are not answered, and wait for that."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _answered(self, answer: Answer, turn: Turn) -> None:
        try:
            await answer(turn)
        except Exception as exc:
            self._failure = self._failure or exc
        finally:
            turn.end()
            self._room.release()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _write_alone(self, message: bytes) -> None:
        # One message at a time: gRPC allows no more.
        async with self._writing:
            await self._write(message)
