"""`python -m benchmarks.starts`: seconds until a server is live and ready, beside the bare import.

One scikit-learn model, one of MLflow, three and fifty models are each started several times in
turn, and so is an interpreter that only imports what these models need. Processor seconds are
those until the server was ready, of the front process and of the workers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks import machine, many_models, render, result_files, servers, session, wine

NAME = "starts"
ROUNDS = 10
IMPORT = "import sklearn.linear_model"
LIVE_GOAL = 0.5
READY_GOAL = 0.5
# For each model but the first.
MODEL_GOAL = 0.02


class Start(NamedTuple):
    """A server to start: its name for `servers`, what it serves, and how many models that is."""

    server: str
    argument: Path
    models: int = 1


def main() -> int:
    """Measure, print, write the result; returns 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.starts", description=__doc__)
    parser.add_argument("--rounds", type=session.count, default=ROUNDS)
    options = parser.parse_args()
    path = result_files.place(NAME)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        rounds = measure(starts(folder), folder, options.rounds)
    result = summary(rounds)
    print(json.dumps(result["medians"], indent=1))
    for goal, reached in result["goals"].items():
        print(f"{'pass' if reached else 'miss'}: {goal}")
    result_files.write(path, result)
    render.main()
    return 0 if all(result["goals"].values()) else 1


def starts(folder: Path) -> dict[str, Start]:
    """What is started, by name; the models are below `folder`."""
    model = wine.save(folder / "wine")
    return {
        "sklearn": Start("headrace-sklearn", model.sklearn),
        "mlflow": Start("headrace-mlflow", model.mlflow),
        "three": Start("headrace-many", many_models.save(folder / "three", 3), 3),
        "fifty": Start("headrace-many", many_models.save(folder / "fifty", 50), 50),
    }


def measure(
    started: dict[str, Start], folder: Path, rounds: int
) -> dict[str, list[dict[str, float]]]:
    """Every figure of every round, by what was started; a first round is left out."""
    tries: dict[str, Callable[[], dict[str, float]]] = {"import": _import}
    for name, start in started.items():
        tries[name] = partial(_start, start, folder / f"{name}.log")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in tries}
    for number in range(rounds + 1):
        for name, attempt in tries.items():
            figures = attempt()
            if number:
                # The first one compiles modules and reads files that the others find in memory.
                found[name].append({**figures, "models": getattr(started.get(name), "models", 0)})
    return found


def _import() -> dict[str, float]:
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", IMPORT], env={**os.environ, **servers.WITH_BYTECODE}, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"ready": time.monotonic() - began, "workers_cpu": used}


def _start(start: Start, log: Path) -> dict[str, float]:
    with servers.running(start.server, start.argument, log) as server:
        used = server.cpu_seconds()
        memory = server.memory_mb()
        return {
            "live": server.live_after,
            "ready": server.ready_after,
            "front_cpu": used["front"],
            "workers_cpu": used["workers"],
            "pss_mb": memory["pss"],
        }


def summary(rounds: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """What the result file holds."""
    medians = {
        name: {figure: round(median(each[figure] for each in figures), 3) for figure in figures[0]}
        for name, figures in rounds.items()
    }
    framework = medians["import"]["ready"]
    goals = {}
    for name, figures in medians.items():
        if name != "import":
            allowed = READY_GOAL + MODEL_GOAL * (figures["models"] - 1)
            goals[f"{name}: live in {LIVE_GOAL:g} s"] = figures["live"] <= LIVE_GOAL
            after = figures["ready"] - framework
            goals[f"{name}: ready {allowed:.2f} s after the import"] = after <= allowed
    return {
        "name": NAME,
        "import": IMPORT,
        "machine": machine.describe(result_files.ROOT, ""),
        "load_average": machine.load_average(),
        "medians": medians,
        "rounds": {
            name: [{figure: round(value, 3) for figure, value in each.items()} for each in figures]
            for name, figures in rounds.items()
        },
        "goals": goals,
    }


if __name__ == "__main__":
    session.run(main)
