"""The goals, each declared once: what is compared, and what must be reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.peers import figures
from benchmarks.peers.figures import Point
from benchmarks.peers.scenarios import CONTENDERS, SCENARIOS
from benchmarks.tables import Run


@dataclass(frozen=True)
class Goal:
    """`samples` finds what was reached, once for each round; their median counts."""

    title: str
    bound: float
    samples: Callable[[Run], Sequence[float]]
    at_least: bool = True
    unit: str = ""


@dataclass(frozen=True)
class Reached:
    """A goal with the median of what was reached, the least and the most; None if not measured."""

    goal: Goal
    middle: float | None
    least: float | None
    most: float | None

    @property
    def verdict(self) -> str:
        """`pass`, `miss` or `not measured`."""
        if self.middle is None:
            return "not measured"
        good = (
            self.middle >= self.goal.bound if self.goal.at_least else self.middle <= self.goal.bound
        )
        return "pass" if good else "miss"


def faster(
    theirs: str,
    bound: float,
    connections: int,
    scenario: str = "row",
    ours: str = "headrace",
    their_scenario: str = "",
) -> Goal:
    """Our rate as a multiple of theirs."""
    of = Point(ours, scenario, connections)
    to = Point(theirs, their_scenario or scenario, connections)
    return Goal(
        f"rate, {_over(of, to)}",
        bound,
        lambda result: figures.ratios(result, of, to),
    )


def sooner(theirs: str, bound: float) -> Goal:
    """Our p50 with one connection as a part of theirs."""
    of, to = Point("headrace", "row", 1), Point(theirs, "row", 1)
    return Goal(
        f"p50, {_over(of, to)}",
        bound,
        lambda result: figures.ratios(result, of, to, "p50_ms"),
        at_least=False,
    )


def cost(kind: str, bound: float) -> Goal:
    """Processor time of the front or the workers for a request."""
    point = Point("headrace", "row", 32)
    return Goal(
        f"processor time of the {kind} for a request, {_title(point)}: {_asked(point)}",
        bound,
        lambda result: figures.values(result, point, f"{kind}_us"),
        at_least=False,
        unit="µs",
    )


def first_answer(theirs: str) -> Goal:
    """Our time to the first answer as a part of theirs."""

    def samples(result: Run) -> list[float]:
        found = [figures.starts(result, name, READY) for name in ("headrace", theirs)]
        return [median(found[0]) / median(found[1])] if all(found) else []

    return Goal(
        f"first answer, Headrace over {CONTENDERS[theirs].title}", 1.0, samples, at_least=False
    )


READY = "ready_after_seconds"
LIVE = "live_after_seconds"


def _over(of: Point, to: Point) -> str:
    if of.scenario == to.scenario:
        return f"{_title(of)} over {_title(to)}: {_asked(of)}"
    return f"{_title(of)} ({_asked(of)}) over {_title(to)} ({_asked(to)})"


def _title(point: Point) -> str:
    return CONTENDERS[point.contender].title


def _asked(point: Point) -> str:
    plural = "" if point.connections == 1 else "s"
    return f"{SCENARIOS[point.scenario].title}, {point.connections} connection{plural}"


def _alone(result: Run, name: str) -> float | None:
    found: float | None = result.get("alone", {}).get(name)
    return found


def _inline(result: Run) -> list[float]:
    """p50 inline over the model's own time and one and a half times bare uvicorn's p50."""
    predict = _alone(result, "predict_us")
    if predict is None:
        return []
    found = []
    for round in figures.rounds(result):
        ours = figures.at(round, Point("headrace-inline", "row", 1))
        bare = figures.at(round, Point("uvicorn", "row", 1))
        if ours is not None and bare is not None:
            found.append(ours["p50_ms"] / (predict / 1000 + 1.5 * bare["p50_ms"]))
    return found


def _start(result: Run) -> list[float]:
    imported = _alone(result, "import_seconds")
    found = figures.starts(result, "headrace", READY)
    return [] if imported is None else [each - imported for each in found]


def _decode(result: Run) -> list[float]:
    passes = _alone(result, "decode_passes")
    return [] if passes is None else [passes]


GOALS = (
    faster("uvicorn", 0.75, 32),
    cost("front", 50),
    cost("workers", 20),
    faster("mlserver", 16, 32),
    faster("bentoml", 55, 32),
    faster("litserve", 22, 32),
    # Each with the batches that it is fastest with.
    faster("mosec-batched-32", 3, 32),
    faster("triton", 1.8, 32),
    faster("mlserver", 20, 128),
    faster("mosec-batched", 1.2, 128),
    faster("triton", 1.9, 128),
    faster("uvicorn", 0.92, 128),
    faster("triton", 1.3, 8),
    sooner("mlserver", 0.45),
    sooner("triton", 1),
    sooner("mosec", 1),
    Goal(
        "p50, Headrace, `--workers 0`, over the model's own time and 1.5 times bare uvicorn's: "
        "One row as JSON, 1 connection",
        1.0, _inline, at_least=False,
    ),
    faster("mlflow", 80, 32, "invocations", "headrace-mlflow"),
    faster("mlserver-mlflow", 50, 32, "invocations", "headrace-mlflow"),
    faster("mlserver-mlflow", 40, 32, "columns", "headrace-mlflow"),
    faster("triton", 2, 4, "grpc"),
    faster("triton", 0.45, 4, "grpc", "headrace-grpcio"),
    faster("mlserver", 5, 4, "table-json"),
    Goal(
        "decoding the 6 MB body, over one pass of simdjson", 1.2, _decode, at_least=False,
    ),
    faster("mlserver", 25, 4, "table-binary", their_scenario="table-json"),
    Goal(
        "live, Headrace", 0.5, lambda result: figures.starts(result, "headrace", LIVE),
        at_least=False, unit="s",
    ),
    Goal(
        "first answer, Headrace, beyond one import of scikit-learn", 0.5, _start,
        at_least=False, unit="s",
    ),
    *(
        first_answer(each)
        for each in ("triton", "mosec", "mlserver", "litserve", "bentoml", "ray", "mlflow")
    ),
)  # fmt: skip


def reached(result: Run) -> list[Reached]:
    """Every goal with what was reached."""
    found = []
    for goal in GOALS:
        samples = list(goal.samples(result))
        spread = (median(samples), min(samples), max(samples)) if samples else (None, None, None)
        found.append(Reached(goal, *spread))
    return found
