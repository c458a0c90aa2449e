"""Requests that wait or run, and the batches in which they run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter

from headrace.batching import policy
from headrace.errors import DeadlineExceeded, HeadraceError, WorkerCrashed
from headrace.observability.timing import Timing
from headrace.protocol.messages import InferenceRequest, InferenceResponse

# What kills workers from outside, such as an operator, seldom has to do with the requests in them.
# One that has seen so many kills runs where nothing else does, and three more there are proof.
SUSPECT_KILLS, MOST_KILLS = 3, 5
# After two deaths of another kind, a neighbour may still be to blame, but not after one more where
# nothing else runs.
SUSPECT_DEATHS, MOST_DEATHS = 2, 2


class Entry:
    """A request that waits or runs, and the future its caller awaits."""

    __slots__ = (
        *("arrived", "deadline", "deaths", "future", "kills", "request", "rows", "size", "timing"),
    )

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
        # Workers that died while they had it, and workers that were killed from outside.
        self.deaths = self.kills = 0
        # Filled in if the caller asked for it.
        self.timing: Timing | None = None

    def count_death(self, error: WorkerCrashed) -> None:
        """Count the death of a worker that had this request, if that may have been the cause."""
        if getattr(error, "blameless", False):
            return
        if getattr(error, "killed", False):
            self.kills += 1
        else:
            self.deaths += 1

    @property
    def is_suspect(self) -> bool:
        """Whether it is to run where nothing else does."""
        return self.deaths >= SUSPECT_DEATHS or self.kills >= SUSPECT_KILLS

    @property
    def is_poisoned(self) -> bool:
        """Whether it is what ends the workers."""
        return self.deaths > MOST_DEATHS or self.kills > MOST_KILLS

    def out_of_time(self) -> HeadraceError:
        """Why it is not answered, now that its time is up."""
        if not self.kills:
            return expired()
        return WorkerCrashed("its worker was killed, and there was no time to run it once more")


def expired() -> DeadlineExceeded:
    """The error for a request whose time is over."""
    return DeadlineExceeded("the request's time ran out before the model answered")


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


def fail(entries: Sequence[Entry], error: HeadraceError) -> None:
    """Fail those whose callers still wait."""
    for entry in entries:
        if not entry.future.done():
            entry.future.set_exception(error)


def note_times(batch: Sequence[Entry], rows: int, began: float) -> None:
    """Note how long the requests of a batch have waited, and how long it took."""
    for entry in batch:
        if (timing := entry.timing) is not None:
            timing.batch = max(rows, timing.rows or 1)
            timing.queued = began - timing.created
            timing.computed = perf_counter() - began
