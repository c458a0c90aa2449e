"""What a worker answers in memory that this process reads too."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from headrace.protocol.tensor import Buffer
from headrace.worker.arena import Arena

# Bytes from which on a tensor is read in place. Below, a copy takes less time than keeping track of
# when its place is free again.
IN_PLACE = 4 * 1024 * 1024


class PlacedAnswers:
    """Takes tensors out of a worker's memory; `release` lets the worker use their places again."""

    def __init__(
        self, arena: Arena, loop: asyncio.AbstractEventLoop, release: Callable[[list[int]], None]
    ) -> None:
        self._arena = arena
        self._loop = loop
        self._release = release
        # Those that are copied and not released yet.
        self.copied: list[int] = []

    def fetch(self, offset: int, size: int) -> Buffer:
        """The bytes of a tensor: a copy, or a view of those that are large."""
        if size < IN_PLACE:
            self.copied.append(offset)
            return self._arena.fetch(offset, size)
        array = self._arena.view(offset, size)
        # It is over when no view of the array is left, in whichever thread that is.
        weakref.finalize(array, self._end, offset).atexit = False
        return array.data.toreadonly()

    def release_copied(self) -> None:
        """Release what has been copied since the last time."""
        copied, self.copied = self.copied, []
        self._release(copied)

    def close(self) -> None:
        """The worker is gone; what is still read goes with its last view."""
        with suppress(BufferError):
            self._arena.close()

    def _end(self, offset: int) -> None:
        # After the loop has been closed, nobody is left to be told.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(partial(self._release, [offset]))
