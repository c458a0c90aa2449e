"""`python -m benchmarks.overload`: more requests than a model can answer, over REST and gRPC.

The model sleeps for each batch, so its capacity is known and leaves the processors to the rest. The
requests arrive at a steady rate, whether or not earlier ones have been answered. In the scenario
`deadline` the queue may grow longer than the time that callers give; in `queue` it is bounded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks import machine, render, result_files, servers, session
from benchmarks.steady_clients import GrpcClient, RestClient

NAME = "overload"
TITLE = "Overload"
TIMES = (2, 5, 10)
TRANSPORTS = ("REST", "gRPC")
# Few enough that a client in Python can send ten times as many.
ROWS, BATCH_SECONDS = 4, 0.05
CAPACITY = ROWS / BATCH_SECONDS
TIMEOUT = 3.0
QUEUE = 64
SECONDS = 6.0
# In which the queue has grown as long as it gets, and the pace of the model is known.
LEAD_SECONDS = 4.0
GOODPUT_GOAL, REJECTION_GOAL_MS, MEMORY_GOAL_MB = 0.9, 10.0, 100.0
OUTCOMES = {
    "right": "answered", "503 overloaded": "refused", "UNAVAILABLE": "refused",
    # Whichever end notices first that the time is over.
    "504 deadline_exceeded": "late", "DEADLINE_EXCEEDED": "late", "CANCELLED": "late",
}  # fmt: skip
SCENARIOS = {"deadline": [], "queue": ["--max-queue-size", str(QUEUE)]}
MODEL = f"""
import time
from headrace import Model

class Slow(Model):
    row_independent = True

    def predict(self, x):
        time.sleep({BATCH_SECONDS})
        return 2 * x
"""
SETTINGS = {
    "name": "slow", "implementation": "slow:Slow", "max_batch_size": ROWS,
    "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 1]}],
}  # fmt: skip


class WrongAnswer(result_files.NoResult):
    """The server answered what it should not."""


def main() -> int:
    """Measure, print and write the result; returns 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    path = result_files.place(NAME)
    print(
        f"goals: {GOODPUT_GOAL:.0%} of the capacity answered in time, 99 % of the rejections in "
        f"{REJECTION_GOAL_MS:g} ms, and at most {MEMORY_GOAL_MB:g} MB more memory"
    )
    result = measure(options.seconds)
    result_files.write(path, result)
    render.main()
    return 0 if all(run["passes"] for run in result["overload"]) else 1


def measure(seconds: float) -> dict[str, Any]:
    """Load one server after the other.

    Raises:
        NotStarted: a server did not start.
        WrongAnswer: it answered something else than the model's answer or a refusal.
    """
    found: dict[str, Any] = {
        "name": NAME,
        "title": TITLE,
        "method": {
            "rows": ROWS, "batch_seconds": BATCH_SECONDS, "capacity": CAPACITY,
            "timeout": TIMEOUT, "queue": QUEUE, "seconds": seconds,
            "goodput_goal": GOODPUT_GOAL, "rejection_goal_ms": REJECTION_GOAL_MS,
        },
        "machine": machine.describe(result_files.ROOT, ""),
        "load_average": {"before": machine.load_average()},
    }  # fmt: skip
    runs = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        place = folder / "slow"
        place.mkdir()
        (place / "slow.py").write_text(MODEL)
        (place / "model-settings.json").write_text(json.dumps(SETTINGS))
        for scenario, flags in SCENARIOS.items():
            for transport in TRANSPORTS:
                for times in TIMES:
                    runs.append(_run(scenario, flags, transport, times, seconds, folder))
    found["load_average"]["after"] = machine.load_average()
    return {**found, "overload": runs}


def _run(
    scenario: str, flags: list[str], transport: str, times: int, seconds: float, folder: Path
) -> dict[str, Any]:
    """One server, started for this run, so that its memory is that of this run."""
    log = folder / f"{scenario}-{transport}-{times}.log"
    with servers.running(
        "headrace-many", folder / "slow", log, flags=[*flags, "--no-access-log"]
    ) as server:
        before = server.memory_mb()["front"]
        load = asyncio.run(_load(server, transport, times * CAPACITY, seconds))
        grown = server.memory_mb()["front"] - before
    goodput = load["answered"] / seconds / CAPACITY
    slowest = load["rejection_ms"]["p99"]
    run = {
        "scenario": scenario,
        "transport": transport,
        "times": times,
        "goodput": round(goodput, 3),
        "memory_grown_mb": round(grown, 1),
        **load,
        "passes": goodput >= GOODPUT_GOAL
        and slowest <= REJECTION_GOAL_MS
        and grown <= MEMORY_GOAL_MB,
    }
    print(
        f"{scenario:8} {transport:4} {times:2} times: {goodput:6.1%} of capacity answered in time, "
        f"rejections in {load['rejection_ms']['p50']:.1f} / {slowest:.1f} ms, "
        f"{load['late']} late, {grown:+.1f} MB: {'pass' if run['passes'] else 'miss'}",
        flush=True,
    )
    return run


async def _load(
    server: servers.Server, transport: str, rate: float, seconds: float
) -> dict[str, Any]:
    """Ask at a steady rate, and count what was asked after the lead."""
    ended = {"answered": 0, "refused": 0, "late": 0}
    rejections: list[float] = []
    asking: set[asyncio.Task[None]] = set()

    async def one(number: int, counts: bool) -> None:
        began = time.perf_counter()
        found = await client.ask("slow", float(number))
        if (outcome := OUTCOMES.get(found)) is None:
            raise WrongAnswer(f"the server's answer was {found}")
        if counts:
            ended[outcome] += 1
            if outcome == "refused":
                rejections.append((time.perf_counter() - began) * 1000)

    client: RestClient | GrpcClient
    if transport == "REST":
        client = RestClient(server.url, TIMEOUT)
    else:
        client = GrpcClient(server.grpc, TIMEOUT)
    try:
        began = time.perf_counter()
        for number in range(round(rate * (LEAD_SECONDS + seconds))):
            due = began + number / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            counts = due - began >= LEAD_SECONDS
            task = asyncio.create_task(one(number, counts))
            asking.add(task)
            task.add_done_callback(asking.discard)
        await asyncio.gather(*asking)
    finally:
        await client.close()
    cuts = quantiles(rejections, n=100) if len(rejections) > 1 else [0.0] * 99
    return {**ended, "rejection_ms": {"p50": round(cuts[49], 2), "p99": round(cuts[98], 2)}}


if __name__ == "__main__":
    session.run(main)
