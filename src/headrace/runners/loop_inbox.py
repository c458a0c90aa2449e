"""Callbacks for an event loop from other threads, many for one waking."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any, Callable
from weakref import WeakKeyDictionary, ref


class LoopInbox:
    """Runs callbacks on a loop in the order in which they were posted.

    `call_soon_threadsafe` writes to a pipe each time; under load, most posts here find the loop
    awake already.
    """

    _of: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopInbox] = WeakKeyDictionary()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Weakly, or the inbox would keep the loop that it is found by.
        self._loop = ref(loop)
        self._waiting: deque[Callable[[], Any]] = deque()
        self._is_awake = False

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> LoopInbox:
        """The inbox of a loop, the same one each time."""
        found = cls._of.get(loop)
        return found if found is not None else cls._of.setdefault(loop, cls(loop))

    def post(self, callback: Callable[[], Any]) -> None:
        """Run a callback on the loop soon. It must not raise. Any thread."""
        self._waiting.append(callback)
        if not self._is_awake:
            self._is_awake = True
            loop = self._loop()
            # A loop that is closed runs nothing any more.
            with suppress(RuntimeError):
                if loop is not None:
                    loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        # Before the first is taken: what is posted from here on wakes the loop again.
        self._is_awake = False
        waiting = self._waiting
        for _ in range(len(waiting)):
            waiting.popleft()()
