"""An event loop in a thread of its own, for coroutines that other threads wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Callable

from headrace.errors import Cancelled
from headrace.runners.current_call import CURRENT

# Pieces that an asynchronous generator may be ahead of the thread that takes them.
AHEAD = 1
# Seconds that coroutines may take to end when the loop is closed.
LAST_STEPS = 2.0


class LoopThread:
    """Runs coroutines for many threads on one loop; each thread waits for its own.

    What runs for a call ends when the call is cancelled, and has the context variables of the
    thread that waits for it.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Wait for the result of an awaitable, or raise what it raises.

        Raises:
            Cancelled: nobody waits for the current call any more.
        """
        work = asyncio.run_coroutine_threadsafe(_awaited(awaitable), self._loop)
        _stop_with_call(work.cancel)
        try:
            return work.result()
        except CancelledError:
            raise _cancelled() from None

    def iterate(self, pieces: AsyncGenerator[Any, None]) -> Iterator[Any]:
        """What an asynchronous generator yields; closing the iterator closes the generator.

        It runs in one task from its beginning to its end, as its context variables require.

        Raises:
            Cancelled: nobody waits for the current call any more.
        """
        taken: SimpleQueue[Any] = SimpleQueue()
        task: asyncio.Task[None]
        room: asyncio.Semaphore
        # Not None, which a model may yield.
        end = object()

        async def put_all() -> None:
            try:
                async for piece in pieces:
                    await room.acquire()
                    taken.put(piece)
            finally:
                await pieces.aclose()

        def start() -> None:
            nonlocal task, room
            room = asyncio.Semaphore(AHEAD)
            task = self._loop.create_task(put_all())
            task.add_done_callback(lambda _: taken.put(end))

        def stop() -> None:
            self._loop.call_soon_threadsafe(lambda: task.cancel())

        self._loop.call_soon_threadsafe(start)
        _stop_with_call(stop)
        piece = None
        try:
            while (piece := taken.get()) is not end:
                self._loop.call_soon_threadsafe(lambda: room.release())
                yield piece
        finally:
            if piece is not end:
                stop()
                while taken.get() is not end:
                    pass
        if task.cancelled():
            raise _cancelled()
        if (error := task.exception()) is not None:
            raise error

    def close(self) -> None:
        """Cancel what still runs, and end the loop and its thread."""
        ending = asyncio.run_coroutine_threadsafe(_end_all(), self._loop)
        with suppress(Exception):
            ending.result(LAST_STEPS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LAST_STEPS)
        # Code that blocks the loop keeps it and its thread.
        if not self._thread.is_alive():
            self._loop.close()

    def _run_forever(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


def _stop_with_call(stop: Callable[[], Any]) -> None:
    """Have the current call stop this work when it is cancelled."""
    call = CURRENT.get()
    if call is None:
        return
    call.stop = stop
    if call.is_cancelled:
        stop()


def _cancelled() -> Cancelled:
    return Cancelled("nobody waits for the answer any more")
