"""`python -m benchmarks.against COMMIT`: this checkout and an earlier commit, in one run.

Both serve the same scikit-learn model, and a third server is this checkout with its access log on.
The rounds are interleaved in random order, so a busy machine slows all of them alike. A ratio is
the median over the rounds of a rate divided by the earlier commit's in the same round.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tarfile
import tempfile
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import load, machine, result_files, servers, session, wine

CONNECTIONS = (1, 32)
WARM_UP = 1


def main() -> int:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(prog="benchmarks.against", description=__doc__)
    parser.add_argument("commit", help="what to compare with")
    parser.add_argument("--rounds", type=session.count, default=7)
    parser.add_argument("--seconds", type=session.count, default=3)
    parser.add_argument("--name", default="against", help="name of the file in results/")
    options = parser.parse_args()
    load.wrk_version()
    path = result_files.place(options.name)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        result = compare(Path(name), options.commit, options.rounds, options.seconds)
    print(json.dumps(result["medians"], indent=1))
    result_files.write(path, result)
    return 0


def compare(folder: Path, commit: str, rounds: int, seconds: int) -> dict[str, Any]:
    """Serve both states, load them in turn, and return every round and the medians."""
    earlier = {"PYTHONPATH": str(extract(commit, folder / "earlier"))}
    model = wine.save(folder / "models")
    script = folder / "request.lua"
    load.write_script(script, wine.tensor_body())
    states = {"before": earlier, "after": {}, "after, access log": {"HEADRACE_ACCESS_LOG": "1"}}
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    with ExitStack() as stack:
        up = {
            state: stack.enter_context(
                servers.running("headrace", model.sklearn, folder / f"{i}.log", environ)
            )
            for i, (state, environ) in enumerate(states.items())
        }
        for server in up.values():
            load.run(server.url + wine.INFER, script, 8, WARM_UP)
        for _ in range(rounds):
            for connections in CONNECTIONS:
                by_state = found.setdefault(str(connections), {state: [] for state in up})
                for state in random.sample(list(up), len(up)):
                    by_state[state].append(_measure(up[state], script, connections, seconds))
    return {
        "machine": machine.describe(result_files.ROOT, load.wrk_version()),
        "before": commit,
        "seconds": seconds,
        "medians": {connections: _medians(states) for connections, states in found.items()},
        "rounds": found,
    }


def _measure(
    server: servers.Server, script: Path, connections: int, seconds: int
) -> dict[str, float]:
    before = server.cpu_seconds()["front"]
    measured = load.run(server.url + wine.INFER, script, connections, seconds)
    used = server.cpu_seconds()["front"] - before
    return {
        "rate": round(measured.rate, 1),
        "front_us": round(used / measured.requests * 1e6, 2),
        "p99_ms": measured.p99_ms,
    }


def _medians(states: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The medians of each state; `front_us` is the front's processor time for one request."""
    first = states["before"]
    return {
        state: {
            **{key: round(median(each[key] for each in rounds), 2) for key in rounds[0]},
            "ratio": round(
                median(b["rate"] / a["rate"] for a, b in zip(first, rounds, strict=True)), 3
            ),
        }
        for state, rounds in states.items()
    }


def extract(commit: str, folder: Path) -> Path:
    """Write the code of a commit to `folder`, and return where Python finds it.

    Raises:
        NoResult: git is missing, or has no such commit here.
    """
    command = ["git", "archive", commit, "src"]
    try:
        archive = subprocess.run(command, cwd=result_files.ROOT, capture_output=True)
    except OSError as error:
        raise result_files.NoResult(f"git, which has {commit}, does not run: {error}") from None
    if archive.returncode:
        reason = archive.stderr.decode().strip()
        raise result_files.NoResult(
            f"{commit} is no commit with a folder src in {result_files.ROOT}; "
            f"`{' '.join(command)}`: {reason}"
        )
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "src"


if __name__ == "__main__":
    session.run(main)
