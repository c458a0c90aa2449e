"""What the rounds of a run add up to: medians, ratios, goals."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Any

from benchmarks.scenarios import GOALS, Goal

Run = dict[str, Any]


def rounds(result: Run, scenario: str, connections: int) -> list[Run]:
    """The rounds of one scenario at one number of connections, in order."""
    found: list[Run] = result["scenarios"][scenario]["rounds"][str(connections)]
    return found


def middle(result: Run, scenario: str, connections: int, figure: str) -> float:
    """The median over the rounds of `rate`, `p50_ms`, `p99_ms`, `front_us` or `workers_us`."""
    return float(median(entry[figure] for entry in rounds(result, scenario, connections)))


def ratio(result: Run, name: str, base: str, connections: int) -> tuple[float, float, float]:
    """The rate of `name` over that of `base`: of the medians, and the lowest and highest round.

    Each round is compared with the round of `base` next to it in time, so that other load on the
    machine affects both.
    """
    both = zip(rounds(result, name, connections), rounds(result, base, connections), strict=True)
    each = [ours["rate"] / theirs["rate"] for ours, theirs in both]
    of_medians = middle(result, name, connections, "rate") / middle(
        result, base, connections, "rate"
    )
    return of_medians, min(each), max(each)


def goals(result: Run) -> Iterable[tuple[Goal, float, float, float]]:
    """Each goal with the ratio reached, and its lowest and highest in a round."""
    for goal in GOALS:
        yield goal, *ratio(result, goal.name, goal.base, goal.connections)


def verdict(goal: Goal, reached: float) -> str:
    """`pass` or `miss`."""
    return "pass" if reached >= goal.factor else "miss"
