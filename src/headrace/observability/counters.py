"""Counters of the hot path as plain numbers; `admin/metrics.py` renders them at scrape time.

Standard library only. Durations are seconds.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import ClassVar

BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


class Histogram:
    """Counts per bucket, and the sum; the last bucket is unbounded."""

    __slots__ = ("counts", "total")
    bounds: ClassVar[tuple[float, ...]] = BUCKETS

    def __init__(self) -> None:
        self.counts: list[int] = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class DefaultHistogram(Histogram):
    """A histogram with the buckets that Prometheus' client library has if none are given."""

    __slots__ = ()
    bounds = (
        *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5),
        *(0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    )


# Batches of up to as many rows are counted by their size; larger ones by the next power of two,
# because requests of any size may be sent.
EXACT_SIZES = 64


class SizeCounts:
    """Batches of one size that succeeded, their requests and rows, and how long each step took.

    `merged` and `divided` are the time that several requests took to become one batch, and its
    answer to become theirs; `computed` is the time in between.
    """

    __slots__ = ("batches", "computed", "divided", "merged", "requests", "rows")

    def __init__(self) -> None:
        self.batches = 0
        self.requests = 0
        self.rows = 0
        self.merged = 0.0
        self.computed = 0.0
        self.divided = 0.0


class BatchCounts:
    """Batches that were executed, and their rows; more of those that succeeded, streams included.

    `queued` is the time that their requests waited; `merged`, `computed` and `divided` are those
    of each batch, once for each of its requests. `last` is when a batch was last begun, on the
    clock of `perf_counter`; 0 if none was.
    """

    __slots__ = (
        "batches", "by_size", "computed", "divided", "last", "merged", "queued", "rows",
    )  # fmt: skip

    def __init__(self) -> None:
        self.batches = 0
        self.rows = 0
        self.by_size: dict[int, SizeCounts] = {}
        self.queued = 0.0
        self.merged = 0.0
        self.computed = 0.0
        self.divided = 0.0
        self.last = 0.0

    def begin(self, rows: int, now: float) -> None:
        """Count a batch that begins. Hot."""
        self.batches += 1
        self.rows += rows
        self.last = now

    def succeed(
        self,
        requests: int,
        rows: int,
        queued: float,
        computed: float,
        merged: float = 0.0,
        divided: float = 0.0,
    ) -> None:
        """Count a batch that has an answer; `queued` is the sum over its requests. Hot."""
        self.queued += queued
        self.computed += computed * requests
        size = self.by_size.get(rows) or self._of_size(rows)
        size.batches += 1
        size.requests += requests
        size.rows += rows
        size.computed += computed
        if requests > 1:
            self.merged += merged * requests
            self.divided += divided * requests
            size.merged += merged
            size.divided += divided

    def streamed(self, began: float, ended: float) -> None:
        """Count a stream that has ended well, as an execution of one row that did not wait."""
        self.last = max(self.last, began)
        self.succeed(1, 1, 0.0, ended - began)

    def _of_size(self, rows: int) -> SizeCounts:
        size = rows if rows <= EXACT_SIZES else 1 << (rows - 1).bit_length()
        found = self.by_size.get(size)
        if found is None:
            found = self.by_size[size] = SizeCounts()
        return found


class ShadowCounts:
    """What became of the requests that a shadow was to get copies of.

    `dropped` is by why they were not sent, and `errors` by the kind of error. Every `disagreed` is
    one of the `compared`. `duration` is from sent to answered, however that ended.
    """

    __slots__ = ("compared", "disagreed", "dropped", "duration", "errors")

    def __init__(self) -> None:
        self.compared = 0
        self.disagreed = 0
        self.dropped: dict[str, int] = {}
        self.errors: dict[str, int] = {}
        self.duration = Histogram()


class ModelMetrics:
    """What is counted for one served model, over all its loads.

    `shadow` is for what it does as a shadow, and None if it has never been one.
    """

    __slots__ = (
        "batching", "duration", "failed_for", "failures", "passed_over", "shadow", "successes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.batching = BatchCounts()
        self.successes = 0
        # By the kind of error.
        self.failures: dict[str, int] = {}
        # Words in requests that the model does not know, by what they are.
        self.passed_over: dict[str, int] = {}
        # Of all requests, and the part of it that is of failures.
        self.duration = Histogram()
        self.failed_for = 0.0
        self.shadow: ShadowCounts | None = None
