"""Counters of the hot path as plain numbers; `admin/metrics.py` renders them at scrape time.

Standard library only. Durations are seconds.
"""

from __future__ import annotations

from bisect import bisect_left

BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


class Histogram:
    """Counts per bucket, and the sum; the last bucket is unbounded."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts: list[int] = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


class BatchCounts:
    """Batches that were executed, and their rows."""

    __slots__ = ("batches", "rows")

    def __init__(self) -> None:
        self.batches = 0
        self.rows = 0


class ModelMetrics:
    """What is counted for one served model, over all its loads."""

    __slots__ = ("batching", "duration", "failures", "passed_over", "successes")

    def __init__(self) -> None:
        self.batching = BatchCounts()
        self.successes = 0
        # By the kind of error.
        self.failures: dict[str, int] = {}
        # Words in requests that the model does not know, by what they are.
        self.passed_over: dict[str, int] = {}
        self.duration = Histogram()
