"""`python -m benchmarks.service`: a service of one runner, the same model over `/v2`, and BentoML.

One server of ours answers `/v2` and both endpoints, so that these share everything but the way to
the model. BentoML serves the same model beside it, from an environment of its own. Rounds take
turns, and only the measured server has load.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import (
    bentoml_servers,
    environments,
    load,
    machine,
    render,
    result_files,
    servers,
    session,
)
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import headrace

NAME = "service"
CONNECTIONS = 32
ROUNDS, SECONDS, WARM_UP = 5, 4, 1
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
OURS = "headrace"


@dataclass(frozen=True)
class Way:
    """One request to one server, and what each of its answers contains once the class is put in."""

    title: str
    server: str
    path: str
    body: Any
    answer: str = "[%d]"


WAYS = {
    "v2": Way(
        *("Headrace, `/v2/models/iris/infer`", OURS, "/v2/models/iris/infer"),
        *({"inputs": [TENSOR]}, '"data":[%d]'),
    ),
    "async endpoint": Way("Headrace, service, `async def`", OURS, "/classify", [FLOWER]),
    "plain endpoint": Way("Headrace, service, `def`", OURS, "/classify_plainly", [FLOWER]),
    "bentoml": Way("BentoML, `@bentoml.service` class", "bentoml", "/classify", {"rows": [FLOWER]}),
    "bentoml-batched": Way(
        *("BentoML, `@bentoml.service` class, `batchable=True`", "bentoml", "/classify_batched"),
        {"rows": [FLOWER]},
    ),
    "bentoml-legacy": Way(
        "BentoML, `bentoml.legacy.Service` with a runner", "bentoml-legacy", "/classify", [FLOWER]
    ),
}
# Times the rate of the way on the right that the way on the left must reach, if it must.
RATIOS: Mapping[tuple[str, str], float | None] = {
    ("async endpoint", "v2"): 0.6,
    ("async endpoint", "bentoml"): 15.0,
    ("async endpoint", "bentoml-batched"): 15.0,
    ("async endpoint", "bentoml-legacy"): 15.0,
    ("plain endpoint", "v2"): None,
    ("plain endpoint", "bentoml"): None,
    ("plain endpoint", "bentoml-batched"): None,
    ("plain endpoint", "bentoml-legacy"): None,
}


def main() -> int:
    """Measure, print, write the result; returns 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.service", description=__doc__)
    parser.add_argument("--rounds", type=session.count, default=ROUNDS)
    parser.add_argument("--seconds", type=session.count, default=SECONDS)
    parser.add_argument("--without-bentoml", action="store_true", help="measure Headrace only")
    options = parser.parse_args()
    load.wrk_version()
    path = result_files.place(
        NAME, result_files.OUT if options.without_bentoml else result_files.RESULTS
    )
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        result = measure(Path(name), options)
    for way, row in result["ways"].items():
        print(f"{way:16} {row['rate']:8.0f}/s  {row['cpu_us']} us of each process")
    for row in result["ratios"]:
        verdict = "pass" if row["reached"] >= (row["goal"] or 0) else "miss"
        goal = f", goal {row['goal']:g}: {verdict}" if row["goal"] else ""
        print(f"{row['of']} / {row['to']}: {row['reached']:.2f}{goal}")
    result_files.write(path, result)
    if not options.without_bentoml:
        render.main()
    return 0 if all(row["reached"] >= (row["goal"] or 0) for row in result["ratios"]) else 1


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The rounds of all ways, and what each request costs the processes of its server."""
    data, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(data, labels)
    (kind,) = model.predict([FLOWER])
    seen: dict[str, list[dict[str, Any]]] = {}
    before = machine.load_average()
    with ExitStack() as stack:
        up = {OURS: stack.enter_context(_ours(folder, model))}
        if not options.without_bentoml:
            up.update(_bentoml(stack, folder, model))
        ways = {name: way for name, way in WAYS.items() if way.server in up}
        for name, way in ways.items():
            body, part = json.dumps(way.body).encode(), (way.answer % kind).encode()
            load.write_script(folder / f"{name}.lua", body)
            load.write_script(folder / f"{name}-checked.lua", body, part=part)
            _load(up, way, folder / f"{name}-checked.lua", WARM_UP)
        for _ in range(options.rounds):
            for name, way in ways.items():
                found = _load(up, way, folder / f"{name}.lua", options.seconds)
                seen.setdefault(name, []).append(found)
        for name, way in ways.items():
            _load(up, way, folder / f"{name}-checked.lua", WARM_UP)
    described = machine.describe(result_files.ROOT, load.wrk_version())
    described["versions"]["bentoml"] = bentoml_servers.VERSION
    return {
        "name": NAME,
        "title": "A service of one runner",
        "connections": CONNECTIONS,
        "method": {
            "rounds": options.rounds,
            "seconds": options.seconds,
            "warm_up_seconds": WARM_UP,
            "bentoml": bentoml_servers.CONFIGURATION,
        },
        "machine": described,
        "load_average": {"before": before, "after": machine.load_average()},
        "ways": {name: _summary(WAYS[name].title, rounds) for name, rounds in seen.items()},
        "ratios": [_ratio(seen, *pair, goal) for pair, goal in RATIOS.items() if pair[1] in seen],
    }


def _ours(folder: Path, model: Any) -> Any:
    os.environ["HEADRACE_HOME"] = str(folder / "home")
    batched = {"predict": {"batchable": True, "batch_dim": 0}}
    headrace.sklearn.save_model("iris", model, signatures=batched)
    file = folder / "service.py"
    file.write_text(SERVICE)
    return servers.running("headrace-many", Path(f"{file}:svc"), folder / "log")


def _bentoml(stack: ExitStack, folder: Path, model: Any) -> dict[str, servers.Server]:
    python = environments.prepare("bentoml", bentoml_servers.requirements())
    place = folder / "bentoml"
    bentoml_servers.fill(python, place, model)

    def command(name: str, port: int) -> list[str]:
        return bentoml_servers.serve(python, place, name, port)

    return {
        name: stack.enter_context(
            servers.running(
                name,
                folder,
                folder / f"{name}.log",
                bentoml_servers.variables(place, name),
                command,
            )
        )
        for name in bentoml_servers.TARGETS
    }


def _load(up: Mapping[str, servers.Server], way: Way, script: Path, seconds: int) -> dict[str, Any]:
    server = up[way.server]
    before = server.cpu_seconds_each()
    found = load.run(server.url + way.path, script, CONNECTIONS, seconds)
    after = server.cpu_seconds_each()
    used = [after[pid] - since for pid, since in before.items() if pid in after]
    cost = sorted((1e6 * each / found.requests for each in used), reverse=True)
    return {"rate": found.rate, "p50_ms": found.p50_ms, "p99_ms": found.p99_ms, "cpu_us": cost}


def _summary(title: str, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the rounds; `cpu_us` is what each process spent on a request, the most first."""
    middle = {
        key: round(statistics.median(each[key] for each in rounds), 2)
        for key in ("rate", "p50_ms", "p99_ms")
    }
    costs = [each["cpu_us"] for each in rounds]
    return {
        "title": title,
        **middle,
        "rates": [round(each["rate"], 1) for each in rounds],
        "cpu_us": [round(statistics.median(column)) for column in zip(*costs, strict=True)],
    }


def _ratio(
    seen: Mapping[str, list[dict[str, Any]]], of: str, to: str, goal: float | None
) -> dict[str, Any]:
    """The ratio of the median rates, and the lowest and the highest of one round."""
    both = [[each["rate"] for each in seen[name]] for name in (of, to)]
    reached = statistics.median(both[0]) / statistics.median(both[1])
    each = [ours / theirs for ours, theirs in zip(*both, strict=True)]
    return {
        "of": of,
        "to": to,
        "goal": goal,
        "reached": round(reached, 3),
        "least": round(min(each), 3),
        "most": round(max(each), 3),
    }


if __name__ == "__main__":
    session.run(main)
