"""Plain functions that a coroutine awaits, and that still run when nobody waits any more."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Callable


async def call_in_thread(
    submit: Callable[[Callable[[], None]], Any],
    function: Callable[[], Any],
    on_leave: Callable[[], None] = lambda: None,
) -> Any:
    """What a function returns, or raises, in a thread that `submit` finds for it.

    A task that is cancelled ends once the function has, as a thread cannot be stopped: so a
    function that hangs is seen as work that does not end. `on_leave` may hasten it. A function
    that has not begun never does.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    # Who takes it decides: the thread, that the function runs, or the task, that it never will.
    turn: list[None] = [None]
    outcome: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        if not _takes(turn):
            return
        try:
            outcome.append((function(), None))
        except BaseException as exc:
            outcome.append((None, exc))
        # A loop that is closed waits for nothing any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(ended.set_result, None)

    context = copy_context()
    submit(lambda: context.run(run))
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        on_leave()
        if not _takes(turn):
            await _until(ended)
        raise
    value, error = outcome.pop()
    if error is not None:
        raise error
    return value


def _takes(turn: list[None]) -> bool:
    try:
        turn.pop()
    except IndexError:
        return False
    return True


async def _until(ended: asyncio.Future[None]) -> None:
    while not ended.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([ended])
