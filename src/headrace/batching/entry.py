"""Requests that wait or run, and the batches in which they run."""

from __future__ import annotations

import asyncio
from time import perf_counter

from headrace.batching import policy
from headrace.observability.timing import Timing
from headrace.protocol.messages import InferenceRequest, InferenceResponse


class Entry:
    """A request that waits or runs, and the future its caller awaits."""

    __slots__ = ("arrived", "deadline", "deaths", "future", "request", "rows", "size", "timing")

    def __init__(
        self,
        request: InferenceRequest,
        rows: int,
        size: int,
        arrived: float,
        deadline: float,
        future: asyncio.Future[InferenceResponse],
    ) -> None:
        self.request = request
        self.rows = rows
        self.size = size
        self.arrived = arrived
        self.deadline = deadline
        self.future = future
        self.deaths = 0
        # Filled in if the caller asked for it.
        self.timing: Timing | None = None


class Run:
    """One execution of a batch: its merged request, the rows of each entry, and when it began.

    `queued` is how long the entries have waited, all together. `taken` is when the batch was put
    together and `began` when it was on its way, on the clock of `perf_counter`. `at` is the former
    in event loop time.
    """

    __slots__ = ("at", "batch", "began", "counts", "queued", "request", "rows", "taken")

    def __init__(self, batch: list[Entry], now: float) -> None:
        self.batch = batch
        self.at = now
        self.taken = self.began = perf_counter()
        self.counts = [entry.rows for entry in batch]
        self.rows = sum(self.counts)
        self.queued = sum([now - entry.arrived for entry in batch])
        self.request = policy.merge([entry.request for entry in batch])
