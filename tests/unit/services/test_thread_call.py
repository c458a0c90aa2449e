"""Functions in threads that a coroutine waits for, or leaves."""

from __future__ import annotations

import asyncio
import threading

import pytest

from headrace.services.thread_call import call_in_thread

# Ends a hang; no test takes as long.
FAR = 20


def in_new_thread(function):
    threading.Thread(target=function, daemon=True).start()


def test_what_a_function_returns_is_returned():
    assert asyncio.run(call_in_thread(in_new_thread, lambda: "done")) == "done"


def test_a_task_that_is_cancelled_ends_once_its_function_has():
    begun, may_end, seen = threading.Event(), threading.Event(), []

    def function():
        begun.set()
        assert may_end.wait(FAR)
        seen.append("function")

    def leave():
        seen.append("leave")
        # It may be cancelled again meanwhile.
        task.cancel()
        asyncio.get_running_loop().call_soon(may_end.set)

    async def run():
        nonlocal task
        task = asyncio.ensure_future(call_in_thread(in_new_thread, function, leave))
        await asyncio.to_thread(begun.wait, FAR)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    task = None
    asyncio.run(run())

    assert seen == ["leave", "function"]


def test_a_function_that_has_not_begun_when_its_task_is_cancelled_never_does():
    waiting, seen = [], []

    async def run():
        task = asyncio.ensure_future(call_in_thread(waiting.append, lambda: seen.append("ran")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    for function in waiting:
        function()

    assert (len(waiting), seen) == (1, [])
