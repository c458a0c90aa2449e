"""`python -m benchmarks.regress COMMIT`: has the hot path become slower since that commit?

Counts the instructions of front and worker for each request under callgrind, with this checkout and
with COMMIT, for the same models and requests. Then wrk loads both in turns for a few seconds. The
counts decide, because they are the same on a busy machine; the rates are shown beside them.
"""

from __future__ import annotations

import argparse
import json
import struct
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks import against, counting, load, result_files, servers, session, wine
from benchmarks.tables import table

WARM_UP = 50
# A count may grow by this part of itself before the exit status is 1.
TOLERANCE = 0.03
ROUNDS, SECONDS = 3, 1
PROCESSES = ("front", "workers")


@dataclass(frozen=True)
class Case:
    """A whole HTTP request, sent `times` times on each of `at_once` connections."""

    title: str
    request: bytes
    times: int
    at_once: int = 1


def main() -> int:
    """Count, print; returns 1 if a count has grown."""
    parser = argparse.ArgumentParser(prog="benchmarks.regress", description=__doc__)
    parser.add_argument("commit", help="what to compare with")
    parser.add_argument(
        "--requests", type=session.count, default=150, help="requests that are counted"
    )
    parser.add_argument("--counts-only", action="store_true", help="leave out the rates")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    options = parser.parse_args()
    counting.require()
    if not options.counts_only:
        load.wrk_version()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        counts = count(folder, options.commit, options.requests)
        print(counts_table(counts), flush=True)
        if not options.counts_only:
            compared = against.compare(folder, options.commit, ROUNDS, SECONDS)
            print(rates_table(compared["medians"]))
    grown = [
        f"{title}, {process}: {after / before - 1:+.1%}"
        for title, each in counts.items()
        for process, (before, after) in each.items()
        if after > before * (1 + options.tolerance)
    ]
    for line in grown:
        print(f"grown: {line}")
    return 1 if grown else 0


Counts = dict[str, dict[str, tuple[float, float]]]


def count(folder: Path, commit: str, requests: int) -> Counts:
    """By case and process: the instructions for one request, before and after.

    Raises:
        CannotCount, NotStarted: there is no result.
    """
    earlier = against.extract(commit, folder / "counted-earlier")
    model = wine.save(folder / "counted")
    place = folder / "counted" / "mlflow-served"
    place.mkdir()
    settings = {
        "name": "wine-mlflow", "implementation": "mlflow", "parameters": {"uri": "../mlflow"}
    }  # fmt: skip
    (place / "model-settings.json").write_text(json.dumps(settings))
    sources = {"before": earlier, "after": result_files.ROOT / "src"}
    asked = cases(model.columns, requests)

    def counted(state: str) -> dict[str, dict[str, float]]:
        with counting.counting(model.sklearn.parent, sources[state], folder / state) as server:
            return {
                case.title: server.count(
                    case.request, case.times, case.at_once, max(3, WARM_UP // case.at_once)
                )
                for case in asked
            }

    with ThreadPoolExecutor(2) as pool:
        try:
            before, after = pool.map(counted, sources)
        except BaseException:
            # Otherwise Ctrl-C waits until both have counted everything.
            servers.stop_all()
            raise
    return {
        title: {process: (each[process], after[title][process]) for process in PROCESSES}
        for title, each in before.items()
    }


def cases(columns: list[str], requests: int) -> list[Case]:
    """The requests of the hot path."""
    json_type = "content-type: application/json"
    tensor = wine.tensor_body()
    split = json.dumps({"dataframe_split": {"columns": columns, "data": [wine.WINE]}}).encode()
    numbers = struct.pack(f"<{len(wine.WINE)}d", *wine.WINE)
    described = {
        "name": "input-0", "shape": [1, len(wine.WINE)], "datatype": "FP64",
        "parameters": {"binary_data_size": len(numbers)},
    }  # fmt: skip
    head = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    binary = ("content-type: application/octet-stream",
              f"inference-header-content-length: {len(head)}")  # fmt: skip
    single = _http(wine.INFER, tensor, json_type)
    scoring = "/v2/models/wine-mlflow/invocations"
    return [
        Case("`/v2`, JSON, [1, 11]", single, requests),
        Case("`/invocations`, `dataframe_split`", _http(scoring, split, json_type), requests // 2),
        Case(
            "`/v2`, binary tensor, [1, 11]",
            _http(wine.INFER, head + numbers, *binary),
            requests,
        ),
        Case("`/v2`, JSON, 32 requests at once", single, max(1, requests // 16), 32),
    ]


def counts_table(counts: Counts) -> str:
    """Thousands of instructions for each request, before and after."""
    rows = [
        [
            title,
            *(
                f"{before / 1000:,.1f} → {after / 1000:,.1f} ({after / before - 1:+.1%})"
                for before, after in each.values()
            ),
        ]
        for title, each in counts.items()
    ]
    return table(["thousand instructions a request", *PROCESSES], rows)


def rates_table(medians: dict[str, dict[str, dict[str, float]]]) -> str:
    """What wrk measured."""
    rows = [
        [
            connections,
            *(f"{states[state]['rate']:,.0f}" for state in ("before", "after")),
            f"{states['after']['ratio']:.3f}",
            *(f"{states[state]['front_us']:.1f}" for state in ("before", "after")),
        ]
        for connections, states in medians.items()
    ]
    head = [
        "connections", "requests a second before", "after", "ratio",
        "processor time of the front before, µs", "after",
    ]  # fmt: skip
    return table(head, rows)


def _http(path: str, body: bytes, *fields: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: localhost", *fields, f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


if __name__ == "__main__":
    # The counts do not depend on what else the machine does.
    session.run(main, alone=False)
