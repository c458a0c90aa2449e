"""Whether memory grows with each request: a slope that single peaks do not change."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import median

# The part of a run in which caches and pools are filled; it is not counted.
WARM_UP = 0.2


def growth(samples: Sequence[tuple[float, float]]) -> float:
    """How much `(count, megabytes)` grows from the first to the last count, after the warm-up.

    It is the median of the slopes between any two samples (Theil and Sen), times the counts.
    """
    first, last = samples[0][0], samples[-1][0]
    counted = [each for each in samples if each[0] >= first + WARM_UP * (last - first)]
    slopes = [
        (there[1] - here[1]) / (there[0] - here[0])
        for here, there in combinations(counted, 2)
        if there[0] > here[0]
    ]
    return median(slopes) * (last - first)
