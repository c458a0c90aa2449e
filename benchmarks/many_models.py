"""`python -m benchmarks.many_models`: two hundred small scikit-learn models in one server.

Measures the seconds until all of them are ready, and what each adds to the resident memory of
the front and of the worker: the difference from a server with one model, per added model.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from benchmarks import machine, render, servers
from sklearn.linear_model import LogisticRegression

NAME = "many_models"
MODELS = 200
BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 11], "data": [0.5] * 11}]}
).encode()
READY_GOAL = 30.0
MEMORY_GOAL = 1.5


def main() -> int:
    """Measure, print, write the result; returns 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.many_models", description=__doc__)
    parser.add_argument("--models", type=int, default=MODELS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        try:
            one = measure(save(folder / "one", 1), folder / "one.log", 1)
            many = measure(
                save(folder / "many", options.models), folder / "many.log", options.models
            )
        except servers.NotStarted as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            return 1
    result = compare(one, many, options.models)
    render.RESULTS.mkdir(exist_ok=True)
    path = render.RESULTS / f"{NAME}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["each"], indent=1))
    for goal, reached in result["goals"].items():
        print(f"{'pass' if reached else 'miss'}: {goal}")
    print(f"written to {path.relative_to(render.ROOT)}")
    return 0 if all(result["goals"].values()) else 1


def save(folder: Path, count: int) -> Path:
    """A folder of `count` logistic regressions, each with its own settings file."""
    table = np.random.default_rng(0).normal(size=(200, 11))
    model = LogisticRegression().fit(table, table[:, 0] > 0)
    for number in range(count):
        place = folder / f"model-{number:03}"
        place.mkdir(parents=True)
        joblib.dump(model, place / "model.joblib")
        (place / "model-settings.json").write_text(json.dumps({"implementation": "sklearn"}))
    return folder


def measure(folder: Path, log: Path, count: int) -> dict[str, Any]:
    """Serve the folder, call every model once, and measure the server's memory."""
    with servers.running("headrace-many", folder, log) as server:
        loaded = server.memory_mb()
        for number in range(count):
            ask(server.url, f"model-{number:03}")
        return {
            "live_after_seconds": round(server.live_after, 3),
            "ready_after_seconds": round(server.ready_after, 3),
            "memory_mb": {kind: round(size, 1) for kind, size in loaded.items()},
            "memory_asked_mb": {kind: round(size, 1) for kind, size in server.memory_mb().items()},
        }


def ask(url: str, model: str) -> None:
    """Send one row, which the model must answer."""
    with urllib.request.urlopen(f"{url}/v2/models/{model}/infer", BODY, timeout=30) as response:
        response.read()


def compare(one: dict[str, Any], many: dict[str, Any], count: int) -> dict[str, Any]:
    """What the result file holds."""
    each = {}
    for moment in ("memory_mb", "memory_asked_mb"):
        for kind in ("front", "workers"):
            added = many[moment][kind] - one[moment][kind]
            each[f"{kind}_{moment}"] = round(added / max(1, count - 1), 3)
    cost = each["front_memory_asked_mb"] + each["workers_memory_asked_mb"]
    return {
        "name": NAME,
        "models": count,
        "machine": machine.describe(render.ROOT, ""),
        "load_average": machine.load_average(),
        "one": one,
        "many": many,
        "each": {**each, "total_mb": round(cost, 3)},
        "goals": {
            f"all ready in {READY_GOAL:g} s": many["ready_after_seconds"] < READY_GOAL,
            f"under {MEMORY_GOAL:g} MB a model": cost < MEMORY_GOAL,
        },
    }


if __name__ == "__main__":
    sys.exit(main())
