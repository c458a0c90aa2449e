"""`python -m benchmarks.service`: a service of one runner and the same model over `/v2`.

One server serves both, so that they share everything but the way to the model. Rounds take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import load, machine, render, servers
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import headrace

NAME = "service"
CONNECTIONS = 32
ROUNDS, SECONDS = 5, 4
GOAL = 0.6
SERVICE = """
import headrace
from headrace.io import NumpyNdarray

iris = headrace.sklearn.get("iris:latest").to_runner()
svc = headrace.Service("iris_classifier", runners=[iris])
rows = NumpyNdarray(dtype="float64", shape=[-1, 4], enforce_dtype=True, enforce_shape=True)

@svc.api(input=rows, output=NumpyNdarray())
async def classify(x):
    return await iris.predict.async_run(x)

@svc.api(input=rows, output=NumpyNdarray())
def classify_plainly(x):
    return iris.predict.run(x)
"""
FLOWER = [5.9, 3.0, 5.1, 1.8]
TENSOR = {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": FLOWER}
WAYS = {
    "v2": ("/v2/models/iris/infer", {"inputs": [TENSOR]}),
    "async endpoint": ("/classify", [FLOWER]),
    "plain endpoint": ("/classify_plainly", [FLOWER]),
}


def main() -> int:
    """Measure, print, write the result; returns 1 when the goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.service", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        try:
            result = measure(Path(name), options.rounds)
        except (load.LoadFailed, servers.NotStarted) as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            return 1
    render.RESULTS.mkdir(exist_ok=True)
    path = render.RESULTS / f"{NAME}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    for way, row in result["ways"].items():
        print(f"{way:16} {row['rate']:8.0f}/s  {row['cpu_us']} us of each process")
    print(f"written to {path.relative_to(render.ROOT)}")
    return 0 if result["ratio"] >= GOAL else 1


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """The medians of all ways, and what each costs the processes."""
    os.environ["HEADRACE_HOME"] = str(folder / "home")
    data, labels = load_iris(return_X_y=True)
    batched = {"predict": {"batchable": True, "batch_dim": 0}}
    model = LogisticRegression(max_iter=1000).fit(data, labels)
    headrace.sklearn.save_model("iris", model, signatures=batched)
    file = folder / "service.py"
    file.write_text(SERVICE)
    seen: dict[str, list[tuple[float, dict[str, float]]]] = {way: [] for way in WAYS}
    before = machine.load_average()
    with servers.running("headrace-many", Path(f"{file}:svc"), folder / "log") as server:
        for way, (_, body) in WAYS.items():
            load.write_script(folder / f"{way}.lua", json.dumps(body).encode())
        for _ in range(rounds):
            for way, (path, _) in WAYS.items():
                ticks = cpu_seconds()
                found = load.run(server.url + path, folder / f"{way}.lua", CONNECTIONS, SECONDS)
                used = {pid: cpu_seconds()[pid] - since for pid, since in ticks.items()}
                cost = sorted((1e6 * each / found.requests for each in used.values()), reverse=True)
                seen[way].append((found.rate, {str(n): each for n, each in enumerate(cost)}))
    ways = {way: summary(found) for way, found in seen.items()}
    return {
        "name": NAME,
        "connections": CONNECTIONS,
        "machine": machine.describe(render.ROOT, load.wrk_version()),
        "load_average": {"before": before, "after": machine.load_average()},
        "ways": ways,
        "ratio": round(ways["async endpoint"]["rate"] / ways["v2"]["rate"], 3),
        "goal": GOAL,
    }


def summary(found: list[tuple[float, dict[str, float]]]) -> dict[str, Any]:
    """The median rate, and the median of what each process spent on a request."""
    costs = [list(each.values()) for _, each in found]
    return {
        "rate": round(statistics.median(rate for rate, _ in found), 1),
        "rates": [round(rate, 1) for rate, _ in found],
        "cpu_us": [round(statistics.median(column)) for column in zip(*costs, strict=True)],
    }


def cpu_seconds() -> dict[int, float]:
    """What each process of the server has spent since it began."""
    home = f"HEADRACE_HOME={os.environ['HEADRACE_HOME']}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if home not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found[int(folder.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


if __name__ == "__main__":
    sys.exit(main())
