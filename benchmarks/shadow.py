"""`python -m benchmarks.shadow`: what a shadow that gets every request costs the model it shadows.

One server has a shadow and one has none; wrk loads them in turns. A model that waits leaves the
processor to the shadow. The wine model, at 32 connections, leaves it nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import load, machine, result_files, servers, session, wine
from benchmarks.wine import INFER

NAME = "shadow"
ROUNDS, SECONDS, WARM_UP_SECONDS = 4, 2, 1
KINDS = ("without", "with")
# The shadow is loaded when nothing else wants the processor.
PATIENCE = 300.0
FREE_GOAL, SHED_GOAL = 0.95, 0.9
COUNTER = re.compile(r"^headrace_shadow_(\w+)_total\{(.*)\} (\S+)$", re.MULTILINE)
REASON = re.compile(r'(?:reason|code)="(\w+)"')
WAITS = """
import time
import mlflow
from mlflow.models import set_model

class Waits(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        time.sleep(0.01)
        return [1.0] * len(model_input)

set_model(Waits())
"""


@dataclass(frozen=True)
class Scenario:
    """A model in the registry, and the connections that load it."""

    name: str
    title: str
    connections: int
    settings: dict[str, Any]


SCENARIOS = (
    Scenario("free", "waits 10 ms, 16 requests at once", 8, {"max_concurrency": 16}),
    Scenario("saturated", "wine, MLflow, eleven [1] tensors", 32, {}),
)


def main() -> int:
    """Measure, print and write the result; returns 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.shadow", description=__doc__)
    parser.add_argument("--rounds", type=session.count, default=ROUNDS)
    options = parser.parse_args()
    path = result_files.place(NAME)
    result = measure(options.rounds)
    for goal, reached in result["goals"].items():
        print(f"{'pass' if reached else 'miss'}: {goal}")
    result_files.write(path, result)
    return 0 if all(result["goals"].values()) else 1


def measure(rounds: int) -> dict[str, Any]:
    """Register the models, load both servers of each scenario in turns, and compare them.

    Raises:
        LoadFailed: wrk is missing, or a run had an error.
        NotStarted: a server did not start, or its shadow did not.
    """
    wrk = load.wrk_version()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        register(folder)
        found: dict[str, Any] = {
            "name": NAME,
            "method": {"rounds": rounds, "seconds": SECONDS, "warm_up_seconds": WARM_UP_SECONDS},
            "machine": machine.describe(result_files.ROOT, wrk),
            "load_average": {"before": machine.load_average()},
        }
        scenarios = {each.name: _in_turns(each, folder, rounds) for each in SCENARIOS}
        found["load_average"]["after"] = machine.load_average()
    ratio, dropped = scenarios["free"]["ratio"], scenarios["saturated"]["dropped_share"]
    goals = {
        f"with processors to spare, {ratio:.3f} of the rate (goal {FREE_GOAL})": ratio >= FREE_GOAL,
        f"without any, {dropped:.1%} of the copies dropped (goal {SHED_GOAL:.0%})": (
            dropped >= SHED_GOAL
        ),
    }
    return {**found, "scenarios": scenarios, "goals": goals}


def register(folder: Path) -> None:
    """Two versions of each model in a registry of its own: the champion, and the next one."""
    import mlflow.pyfunc
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    columns = wine.save(folder / "wine").columns
    schema = Schema([ColSpec("double", column) for column in columns])
    (folder / "waits.py").write_text(WAITS)
    mlflow.pyfunc.save_model(
        str(folder / "waits"),
        python_model=str(folder / "waits.py"),
        signature=ModelSignature(inputs=schema),
        pip_requirements=[],
    )
    client = MlflowClient(_registry(folder), _registry(folder))
    for scenario, model in (("free", folder / "waits"), ("saturated", folder / "wine" / "mlflow")):
        client.create_registered_model(scenario)
        for alias in ("champion", "next"):
            version = client.create_model_version(scenario, str(model)).version
            client.set_registered_model_alias(scenario, alias, version)
    inputs = [
        {"name": name, "datatype": "FP64", "shape": [1], "data": [value]}
        for name, value in zip(columns, wine.WINE, strict=True)
    ]
    load.write_script(folder / "wine.lua", json.dumps({"inputs": inputs}).encode())


def _registry(folder: Path) -> str:
    return f"sqlite:///{folder}/registry.db"


def _in_turns(scenario: Scenario, folder: Path, rounds: int) -> dict[str, Any]:
    """Load the server without a shadow and the one with it, again and again."""
    script = folder / "wine.lua"
    figures: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    with ExitStack() as stack:
        running = {kind: stack.enter_context(_serving(scenario, kind, folder)) for kind in KINDS}
        for server in running.values():
            load.run(server.url + INFER, script, scenario.connections, WARM_UP_SECONDS)
        counted = _counters(running["with"].url)
        for number in range(1, rounds + 1):
            for kind, server in running.items():
                figures[kind].append(_loaded(server, scenario, script))
                print(
                    f"{scenario.name}, round {number}, {kind:7} "
                    f"{figures[kind][-1]['rate']:9,.0f}/s",
                    flush=True,
                )
        after = _counters(running["with"].url)
    counts = {name: after[name] - counted.get(name, 0) for name in after}
    compared = counts.get("compared", 0)
    dropped = sum(count for name, count in counts.items() if name.startswith("dropped"))
    rates = {kind: statistics.median(each["rate"] for each in figures[kind]) for kind in KINDS}
    return {
        "title": scenario.title,
        "connections": scenario.connections,
        "rounds": figures,
        "counts": counts,
        "ratio": round(rates["with"] / rates["without"], 4),
        "dropped_share": round(dropped / max(1, dropped + compared), 4),
        "microseconds": {
            who: {kind: _median(figures[kind], who) for kind in KINDS}
            for who in ("front_us", "workers_us", "shadow_us")
        },
    }


def _median(rounds: list[dict[str, float]], name: str) -> float:
    return round(statistics.median(each[name] for each in rounds), 1)


@contextmanager
def _serving(scenario: Scenario, kind: str, folder: Path) -> Iterator[servers.Server]:
    """A server that follows the model, with its shadow loaded if it has one."""
    place = folder / f"{scenario.name}-{kind}"
    place.mkdir()
    follow = {"shadow": {"alias": "@next"}} if kind == "with" else {}
    settings = {
        "name": "wine",
        "implementation": "mlflow",
        "parameters": {"uri": f"models:/{scenario.name}@champion"},
        "follow": follow,
        **scenario.settings,
    }
    (place / "model-settings.json").write_text(json.dumps(settings))
    environ = {"MLFLOW_TRACKING_URI": _registry(folder), "HEADRACE_HOME": str(place / "home")}

    def command(name: str, port: int) -> list[str]:
        free = ("--grpc-port", "0", "--metrics-port", "0", "--env-manager", "local")
        serve = [sys.executable, "-m", "headrace", "serve", str(place), "--no-access-log"]
        return [*serve, "--http-port", str(port), *free]

    log = folder / f"{scenario.name}-{kind}.log"
    with servers.running("headrace", place, log, environ, command) as server:
        began = time.monotonic()
        while kind == "with" and not _counters(server.url):
            if time.monotonic() - began > PATIENCE:
                raise servers.NotStarted(f"no shadow after {PATIENCE:.0f} s; see {log}")
            time.sleep(0.2)
        yield server


def _counters(url: str) -> dict[str, float]:
    """What is counted of the shadow."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = {}
    for name, labels, value in COUNTER.findall(text):
        reason = REASON.search(labels)
        found[f"{name} {reason[1]}" if reason else name] = float(value)
    return found


def _loaded(server: servers.Server, scenario: Scenario, script: Path) -> dict[str, float]:
    """One run of wrk, and the processor time that each of the processes used per request."""
    before = server.cpu_seconds_each()
    measured = load.run(server.url + INFER, script, scenario.connections, SECONDS)
    after = server.cpu_seconds_each()
    figures = {name: round(value, 3) for name, value in asdict(measured).items()}
    used = {"front_us": 0.0, "workers_us": 0.0, "shadow_us": 0.0}
    for pid, seconds in after.items():
        used[_who(server, pid)] += seconds - before.get(pid, 0.0)
    for who, seconds in used.items():
        figures[who] = round(seconds / measured.requests * 1e6, 1)
    return figures


def _who(server: servers.Server, pid: int) -> str:
    if pid == server.process.pid:
        return "front_us"
    try:
        return "shadow_us" if os.getpriority(os.PRIO_PROCESS, pid) == 19 else "workers_us"
    except ProcessLookupError:
        return "workers_us"


if __name__ == "__main__":
    session.run(main)
