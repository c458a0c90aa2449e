"""`python -m benchmarks.image_plugin`: pictures scored by a plugin and by a hand-written server.

All servers call the same function. The hand-written one calls it on its event loop, which is the
fastest it can do; Headrace runs it in a worker, one picture at a time or batched.
"""

from __future__ import annotations

import json
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import load, machine, result_files, servers, session
from benchmarks.image import scoring

NAME = "image_plugin"
CONNECTIONS = 32
ROUNDS = 5
SECONDS = 3
PATH = "/api/predict"
BY_HAND = "starlette"
SERVERS = (BY_HAND, "headrace-plugin", "headrace-plugin-batched")
GOALS = {"headrace-plugin": 0.8, "headrace-plugin-batched": 1.0}


def main() -> int:
    """Measure, print, write the result; returns 1 when a goal is missed."""
    path = result_files.place(NAME)
    result = measure()
    for name, goal in result["goals"].items():
        print(f"{'pass' if goal['reached'] >= goal['goal'] else 'miss'}: {name} {goal}")
    result_files.write(path, result)
    return 0 if all(goal["reached"] >= goal["goal"] for goal in result["goals"].values()) else 1


def measure() -> dict[str, Any]:
    """Start all servers, load them in turn, compare.

    Raises:
        LoadFailed, NotStarted: there is no result.
    """
    wrk = load.wrk_version()
    rates: dict[str, list[float]] = {name: [] for name in SERVERS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        picture = scoring.save(folder / "model")
        script = folder / "picture.lua"
        load.write_script(script, picture, "image/png")
        running = {
            name: stack.enter_context(
                servers.running(name, folder / "model", folder / f"{name}.log")
            )
            for name in SERVERS
        }
        _compare_answers(running, picture)
        for number in range(ROUNDS + 1):
            for name, server in running.items():
                measured = load.run(server.url + PATH, script, CONNECTIONS, SECONDS)
                # The first round is the warm-up.
                if number:
                    rates[name].append(round(measured.rate, 1))
                    print(f"round {number}, {name:24} {measured.rate:8,.0f}/s", flush=True)
    return {
        "name": NAME,
        "connections": CONNECTIONS,
        "seconds": SECONDS,
        "machine": machine.describe(result_files.ROOT, wrk),
        "load_average": machine.load_average(),
        "rates": rates,
        "goals": {name: _ratio(rates, name, goal) for name, goal in GOALS.items()},
    }


def _ratio(rates: dict[str, list[float]], name: str, goal: float) -> dict[str, float]:
    each = [ours / theirs for ours, theirs in zip(rates[name], rates[BY_HAND], strict=True)]
    return {
        "goal": goal,
        "reached": round(median(rates[name]) / median(rates[BY_HAND]), 2),
        "least": round(min(each), 2),
        "most": round(max(each), 2),
    }


def _compare_answers(running: dict[str, servers.Server], picture: bytes) -> None:
    """All must answer with the same ten probabilities, or their rates mean nothing."""
    answers = []
    for server in running.values():
        request = urllib.request.Request(server.url + PATH, picture, {"Content-Type": "image/png"})
        with urllib.request.urlopen(request, timeout=30) as response:
            answers.append([round(value, 6) for value in json.loads(response.read())])
    if any(answer != answers[0] for answer in answers):
        raise load.LoadFailed(f"the servers answer differently: {answers}")


if __name__ == "__main__":
    session.run(main)
