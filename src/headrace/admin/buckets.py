"""The histograms of the counters in the form of Prometheus' client library."""

from __future__ import annotations

from headrace.observability.counters import Histogram


def cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    """The buckets of a histogram as Prometheus wants them: bound, and count up to it."""
    below = 0
    found: list[tuple[str, float]] = []
    for bound, count in zip([*map(str, histogram.bounds), "+Inf"], histogram.counts, strict=True):
        below += count
        found.append((bound, below))
    return found
