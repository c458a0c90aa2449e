"""What the rounds of all groups add up to: medians, and ratios of neighbours in time."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from benchmarks.tables import Run


class Point(NamedTuple):
    """One server in one scenario over some connections."""

    contender: str
    scenario: str
    connections: int


def rounds(result: Run) -> Iterator[Run]:
    """Every round of every group."""
    for group in result["groups"].values():
        yield from group["rounds"]


def at(round: Run, point: Point) -> Run | None:
    """The figures of a point in one round, if it was measured."""
    found: Run | None = (
        round.get(point.scenario, {}).get(str(point.connections), {}).get(point.contender)
    )
    return found


def values(result: Run, point: Point, figure: str) -> list[float]:
    """A figure of every round that has it."""
    found = [each for round in rounds(result) if (each := at(round, point)) is not None]
    return [each[figure] for each in found if figure in each]


def middle(result: Run, point: Point, figure: str) -> float | None:
    """The median over the rounds; None if nothing was measured."""
    found = values(result, point, figure)
    return median(found) if found else None


def ratios(result: Run, of: Point, to: Point, figure: str = "rate") -> list[float]:
    """`of` divided by `to` in each round that has both."""
    found = []
    for round in rounds(result):
        ours, theirs = at(round, of), at(round, to)
        if ours is not None and theirs is not None:
            found.append(ours[figure] / theirs[figure])
    return found


def starts(result: Run, contender: str, figure: str) -> list[float]:
    """`live_after_seconds` or `ready_after_seconds` of a server, in each group that it is in."""
    groups = result["groups"].values()
    return [each["servers"][contender][figure] for each in groups if contender in each["servers"]]


def memory(result: Run, contender: str) -> list[float]:
    """Megabytes after the load, pages that processes share counted once, in each group."""
    groups = result["groups"].values()
    return [
        each["servers"][contender]["memory_mb"]["pss"]
        for each in groups
        if contender in each["servers"]
    ]


def failures(result: Run) -> dict[str, str]:
    """Why a server has no figures, or not all, by server."""
    return {
        name: reason
        for group in result["groups"].values()
        for name, reason in group["failed"].items()
    }
