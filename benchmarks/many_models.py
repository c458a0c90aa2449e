"""`python -m benchmarks.many_models`: one, twenty and two hundred small models in one server.

Measures the seconds until all of them are ready, and what each adds to the resident memory of
the front and of the worker: the difference from a server with one model, per added model. MLServer
serves the same folders, without workers of its own, if `make bench-peers` has prepared it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from benchmarks import environments, machine, render, result_files, servers, session
from sklearn.linear_model import LogisticRegression

NAME = "many_models"
MODELS, SOME = 200, 20
MLSERVER = environments.ENVIRONMENTS / "mlserver" / "bin" / "mlserver"
BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 11], "data": [0.5] * 11}]}
).encode()
READY_GOAL = 30.0
MEMORY_GOAL = 1.5


def main() -> int:
    """Measure, print, write the result; returns 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.many_models", description=__doc__)
    parser.add_argument("--models", type=session.count, default=MODELS)
    options = parser.parse_args()
    path = result_files.place(NAME)
    counts = sorted({1, min(SOME, options.models), options.models})
    found: dict[str, dict[int, dict[str, Any]]] = {"headrace": {}}
    if MLSERVER.exists():
        found["mlserver"] = {}
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        for count in counts:
            place = save(folder / str(count), count)
            for server, measured in found.items():
                log = folder / f"{server}-{count}.log"
                measured[count] = measure(server, place, log, count)
                print(f"{count} models, {server}: {measured[count]}", flush=True)
    ours = found["headrace"]
    result = {**compare(ours[1], ours[counts[-1]], counts[-1]), "memory": found}
    print(json.dumps(result["each"], indent=1))
    for goal, reached in result["goals"].items():
        print(f"{'pass' if reached else 'miss'}: {goal}")
    result_files.write(path, result)
    render.main()
    return 0 if all(result["goals"].values()) else 1


def save(folder: Path, count: int) -> Path:
    """A folder of `count` logistic regressions, each with its own settings file."""
    table = np.random.default_rng(0).normal(size=(200, 11))
    model = LogisticRegression().fit(table, table[:, 0] > 0)
    for number in range(count):
        place = folder / f"model-{number:03}"
        place.mkdir(parents=True)
        joblib.dump(model, place / "model.joblib")
        settings = {
            "name": place.name,
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": "./model.joblib"},
        }
        (place / "model-settings.json").write_text(json.dumps(settings))
    return folder


def measure(name: str, folder: Path, log: Path, count: int) -> dict[str, Any]:
    """Serve the folder, call every model once, and measure the server's memory."""

    def mlserver(_: str, port: int) -> list[str]:
        ports = {"HTTP": port, "GRPC": 0, "METRICS": 0}
        variables = [f"MLSERVER_{kind}_PORT={number}" for kind, number in ports.items()]
        alone = ["MLSERVER_PARALLEL_WORKERS=0", "MLSERVER_HOST=127.0.0.1"]
        return ["env", *variables, *alone, str(MLSERVER), "start", str(folder)]

    command = mlserver if name == "mlserver" else None
    # Both have the same routes for their health.
    with servers.running("headrace-many", folder, log, command=command) as server:
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
    request = urllib.request.Request(
        f"{url}/v2/models/{model}/infer", BODY, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
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
        "machine": machine.describe(result_files.ROOT, ""),
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
    session.run(main)
