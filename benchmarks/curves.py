"""`python -m benchmarks.curves`: what a request costs as connections and models become more.

The cost is the processor time that front and worker use for each request, which depends less on the
rest of the machine than a rate does. wrk loads a server with one model over 1 to 512 connections,
and then, over 32, one of 1 to 500 models, and all of them in turn.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import load, machine, many_models, render, result_files, servers, session

NAME = "curves"
TITLE = "Cost per request as load and models grow"
CONNECTIONS = (1, 2, 8, 32, 128, 512)
MODELS = (1, 10, 100, 500)
LOADED = 32
ROUNDS, SECONDS, WARM_UP_SECONDS = 3, 2, 1
GOAL = 1.3
# wrk calls this for each request; the paths take turns.
IN_TURN = """
local paths = {{}}
for i = 0, {last} do
  paths[i] = wrk.format(nil, string.format("/v2/models/model-%03d/infer", i))
end
local number = 0
function request()
  number = (number + 1) % ({last} + 1)
  return paths[number]
end
"""
Costs = dict[str, list[dict[str, float]]]


def main() -> int:
    """Measure, print and write the result; returns 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.curves", description=__doc__)
    parser.add_argument("--rounds", type=session.count, default=ROUNDS)
    options = parser.parse_args()
    path = result_files.place(NAME)
    result = measure(options.rounds)
    for name, growth in result["growth"].items():
        verdict = "pass" if growth <= GOAL else "miss"
        print(f"{verdict}: {name}, the cost grows by {growth:.2f}, goal {GOAL:g}")
    result_files.write(path, result)
    render.main()
    return 0 if max(result["growth"].values()) <= GOAL else 1


def measure(rounds: int) -> dict[str, Any]:
    """Load one server after the other.

    Raises:
        LoadFailed: wrk is missing, or a run had an error.
        NotStarted: a server did not start.
    """
    wrk = load.wrk_version()
    found: dict[str, Any] = {
        "name": NAME,
        "title": TITLE,
        "method": {"rounds": rounds, "seconds": SECONDS, "loaded": LOADED, "goal": GOAL},
        "machine": machine.describe(result_files.ROOT, wrk),
        "load_average": {"before": machine.load_average()},
    }
    curves: dict[str, Costs] = {"connections": {}, "one model of": {}, "all models in turn": {}}
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        for models in MODELS:
            _serve(models, folder, curves, rounds)
    found["load_average"]["after"] = machine.load_average()
    medians = {
        curve: {
            point: {key: round(median(each[key] for each in costs), 2) for key in costs[0]}
            for point, costs in points.items()
        }
        for curve, points in curves.items()
    }
    growth = {curve: _growth(points) for curve, points in medians.items()}
    return {**found, "curves": medians, "growth": growth, "rounds": curves}


def _serve(models: int, folder: Path, curves: dict[str, Costs], rounds: int) -> None:
    place = many_models.save(folder / str(models), models)
    with ExitStack() as stack:
        flags = ["--max-connections", "2048", "--no-access-log"]
        server = stack.enter_context(
            servers.running("headrace-many", place, folder / f"{models}.log", flags=flags)
        )
        one, turns = folder / "one.lua", folder / f"{models}.lua"
        load.write_script(one, many_models.BODY)
        load.write_script(turns, many_models.BODY)
        turns.write_text(turns.read_text() + IN_TURN.format(last=models - 1))
        path = "/v2/models/model-000/infer"
        runs = [("one model of", str(models), one, LOADED)]
        if models > 1:
            runs.append(("all models in turn", str(models), turns, LOADED))
        else:
            runs += [("connections", str(count), one, count) for count in CONNECTIONS]
        load.run(server.url + path, turns, LOADED, WARM_UP_SECONDS)
        for number in range(1, rounds + 1):
            for curve, point, script, connections in runs:
                costs = _measure(server, path, script, connections)
                curves[curve].setdefault(point, []).append(costs)
                print(
                    f"round {number}, {curve} {point}: front {costs['front_us']:.1f} µs, "
                    f"worker {costs['workers_us']:.1f} µs, {costs['rate']:,.0f}/s",
                    flush=True,
                )


def _measure(server: servers.Server, path: str, script: Path, connections: int) -> dict[str, float]:
    before = server.cpu_seconds()
    measured = load.run(server.url + path, script, connections, SECONDS)
    after = server.cpu_seconds()
    used = {kind: (after[kind] - before[kind]) / measured.requests * 1e6 for kind in after}
    return {
        "front_us": used["front"],
        "workers_us": used["workers"],
        "rate": measured.rate,
        "p99_ms": measured.p99_ms,
    }


def _growth(points: dict[str, dict[str, float]]) -> float:
    """The most that front and worker together cost, compared with any smaller load."""
    costs = [each["front_us"] + each["workers_us"] for each in points.values()]
    return round(max(cost / min(costs[: i + 1]) for i, cost in enumerate(costs)), 3)


if __name__ == "__main__":
    session.run(main)
