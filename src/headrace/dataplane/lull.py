"""Finds the moments at which the event loop has nothing else to do."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from time import perf_counter

# A turn of the loop with nothing in it takes a few microseconds, or tens of them on a slow machine;
# one with a request in it takes longer than that. In seconds.
LONGEST_LULL = 100e-6
# How much longer than the shortest turn so far one may be that counts as empty, and this at least.
SLACK = 3.0
SHORTEST_LULL = 20e-6


class Lull:
    """Measures turns of the event loop.

    A turn is long if there are requests or answers in it, and also if other processes keep this
    one from the processor.
    """

    def __init__(self) -> None:
        self._shortest = math.inf

    def look(self, then: Callable[[bool], None]) -> None:
        """Call `then` in two turns, with whether nothing else was in the one in between."""
        loop = asyncio.get_running_loop()
        loop.call_soon(self._begin, loop, then)

    def _begin(self, loop: asyncio.AbstractEventLoop, then: Callable[[bool], None]) -> None:
        loop.call_soon(self._end, then, perf_counter())

    def _end(self, then: Callable[[bool], None], began: float) -> None:
        took = perf_counter() - began
        self._shortest = min(self._shortest, took)
        longest = min(max(SLACK * self._shortest, SHORTEST_LULL), LONGEST_LULL)
        then(took <= longest)
