"""`python -m benchmarks`: one wine per request, on Headrace, bare uvicorn and MLflow."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import comparison, load, machine, render, servers, wine
from benchmarks.scenarios import CONNECTIONS, Scenario, WrongAnswer, ask, scenarios

NAME = "wine"
TITLE = "One wine per request"
SECONDS, QUICK_SECONDS = 3, 2
ROUNDS, QUICK_ROUNDS = 3, 1
WARM_UP_SECONDS = 1


def main() -> int:
    """Measure, print, write the results; returns the exit status, 1 when a run failed."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="one short round, written to benchmarks/out only"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        result = measure(
            QUICK_ROUNDS if options.quick else ROUNDS, QUICK_SECONDS if options.quick else SECONDS
        )
    except (load.LoadFailed, servers.NotStarted, WrongAnswer) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    print_goals(result)
    folder = render.ROOT / "benchmarks" / "out" if options.quick else render.RESULTS
    folder.mkdir(exist_ok=True)
    path = folder / f"{NAME}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path.relative_to(render.ROOT)}")
    if not options.quick:
        render.main()
    return 0


def measure(rounds: int, seconds: int) -> dict[str, Any]:
    """Start every server, load them in turn, and return what the results file holds.

    Raises:
        LoadFailed: wrk is missing, or a run had an error.
        NotStarted: a server did not start.
        WrongAnswer: a server does not answer what the model predicts.
    """
    wrk = load.wrk_version()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        print("training the wine model", flush=True)
        model = wine.save(folder / "models")
        asked = scenarios(model.columns)
        result: dict[str, Any] = {
            "name": NAME,
            "title": TITLE,
            "method": {
                "connections": list(CONNECTIONS),
                "rounds": rounds,
                "seconds": seconds,
                "warm_up_seconds": WARM_UP_SECONDS,
            },
            "machine": machine.describe(render.ROOT, wrk),
            "load_average": {"before": machine.load_average()},
        }
        running = _start(stack, folder, model, asked)
        figures = _load_in_turns(running, asked, folder, rounds, seconds)
        result["load_average"]["after"] = machine.load_average()
        result["servers"] = {name: _start_and_memory(server) for name, server in running.items()}
    result["scenarios"] = {
        scenario.name: {"title": scenario.title, "rounds": figures[scenario.name]}
        for scenario in asked
    }
    return result


def print_goals(result: dict[str, Any]) -> None:
    """Print each goal with what was reached."""
    for goal, reached, least, most in comparison.goals(result):
        print(
            f"{comparison.verdict(goal, reached)}: {goal.name} is {reached:.2f} times "
            f"{goal.base} at {goal.connections} connections "
            f"(rounds {least:.2f} to {most:.2f}), the goal is {goal.factor:g}"
        )


def _start(
    stack: ExitStack, folder: Path, model: wine.WineModel, asked: list[Scenario]
) -> dict[str, servers.Server]:
    """Start the servers one after another and check the answer of every scenario."""
    answer = folder / "answer"
    arguments = {
        "headrace-sklearn": model.sklearn,
        "headrace-mlflow": model.mlflow,
        "mlflow": model.mlflow,
        "uvicorn": answer,
    }
    running = {}
    for name, argument in arguments.items():
        server = stack.enter_context(servers.running(name, argument, folder / f"{name}.log"))
        print(f"{name} is ready after {server.ready_after:.2f} s", flush=True)
        running[name] = server
        for scenario in asked:
            if scenario.server == name:
                body = ask(scenario, server.url, model.expected)
                if scenario.name == "headrace-tensor":
                    # The echo answers as many bytes as the server that it is the limit for.
                    answer.write_bytes(body)
    return running


def _load_in_turns(
    running: dict[str, servers.Server],
    asked: list[Scenario],
    folder: Path,
    rounds: int,
    seconds: int,
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Load every scenario at every number of connections once per round."""
    figures: dict[str, dict[str, list[dict[str, float]]]] = {
        scenario.name: {str(count): [] for count in CONNECTIONS} for scenario in asked
    }
    for scenario in asked:
        load.write_script(folder / f"{scenario.name}.lua", scenario.body)
    for number in range(1, rounds + 1):
        for count in CONNECTIONS:
            for scenario in asked:
                server, script = running[scenario.server], folder / f"{scenario.name}.lua"
                if number == 1:
                    load.run(server.url + scenario.path, script, count, WARM_UP_SECONDS)
                measured = _loaded(server, scenario, script, count, seconds)
                figures[scenario.name][str(count)].append(measured)
                print(
                    f"round {number}, {count:3} connections, {scenario.name:20} "
                    f"{measured['rate']:9,.0f}/s, p50 {measured['p50_ms']:8.2f} ms, "
                    f"p99 {measured['p99_ms']:8.2f} ms",
                    flush=True,
                )
    return figures


def _loaded(
    server: servers.Server, scenario: Scenario, script: Path, connections: int, seconds: int
) -> dict[str, float]:
    """One run of wrk, with the processor time that the server used per request."""
    before = server.cpu_seconds()
    measured = load.run(server.url + scenario.path, script, connections, seconds)
    after = server.cpu_seconds()
    figures = {name: round(value, 3) for name, value in asdict(measured).items()}
    for kind in ("front", "workers"):
        used = (after[kind] - before[kind]) / measured.requests
        figures[f"{kind}_us"] = round(used * 1e6, 1)
    return figures


def _start_and_memory(server: servers.Server) -> dict[str, Any]:
    """How fast the server started, and its memory after the load."""
    return {
        "live_after_seconds": round(server.live_after, 3),
        "ready_after_seconds": round(server.ready_after, 3),
        "memory_mb": {kind: round(size, 1) for kind, size in server.memory_mb().items()},
    }


if __name__ == "__main__":
    sys.exit(main())
