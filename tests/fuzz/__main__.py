"""Fuzzing, as `make fuzz` and `make fuzz-long` run it: first the tests, then every decoder.

It ends with 1 if anything failed. The long form writes `benchmarks/results/fuzz.json`, and leaves
figures there that it has not measured as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import machine, result_files

from fuzz.decoders import TARGETS
from fuzz.exploration import ROOT, Explored, explore_all, keep

# Of each target.
SHORT_SECONDS, LONG_SECONDS = 2, 60
PACKAGES = ("atheris", "headrace", "hypothesis")


def main() -> int:
    """Run what the arguments ask for."""
    options = parsed()
    if options.keep:
        for name in options.only or TARGETS:
            print(f"{name}: kept {keep(name, options.seconds, options.seed)}", flush=True)
        return 0
    path = result_files.place("fuzz", result_files.RESULTS if options.long else result_files.OUT)
    started = time.monotonic()
    figures, failed = [], False
    if not options.only:
        figures, failed = tests(options)
    for explored in explore_all(options.only or list(TARGETS), options.seconds, options.seed):
        figures.append(shown(explored))
        failed |= bool(explored.finding)
    result_files.write(
        path,
        {
            "name": "fuzz",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": machine.commit(ROOT),
            "python": platform.python_version(),
            "versions": {package: version(package) for package in PACKAGES},
            "seed": options.seed,
            "seconds": round(time.monotonic() - started, 1),
            "figures": with_others(path, figures),
        },
    )
    return int(failed)


def with_others(path: Path, figures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures, and those of an earlier run that this one has not measured again."""
    before = result_files.read(path)["figures"] if path.exists() else []
    by_subject = {(each["what"], each["target"]): each for each in (*before, *figures)}
    return list(by_subject.values())


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--long", action="store_true", help="try as much as the figures need")
    parser.add_argument(
        "--only", nargs="+", choices=TARGETS, metavar="DECODER", help="explore these decoders only"
    )
    parser.add_argument("--seconds", type=int, help="how long to explore each decoder")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", action="store_true", help="add to the corpus that is kept")
    options = parser.parse_args()
    options.seconds = options.seconds or (LONG_SECONDS if options.long else SHORT_SECONDS)
    return options


def tests(options: argparse.Namespace) -> tuple[list[dict[str, Any]], bool]:
    """The figures of the tests, and whether one failed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "figures")
        file.touch()
        variables = {
            "HEADRACE_FUZZ": "long" if options.long else "short",
            "HEADRACE_FUZZ_SEED": str(options.seed),
            "HEADRACE_FUZZ_FIGURES": str(file),
        }
        command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "-m", "fuzz"]
        if options.long:
            command += ["--timeout", "14400"]
        done = subprocess.run([*command, "tests/fuzz"], cwd=ROOT, env={**os.environ, **variables})
        return [json.loads(line) for line in file.read_text().splitlines()], done.returncode != 0


def shown(explored: Explored) -> dict[str, Any]:
    """The figure of a decoder, which is printed as well."""
    found = explored.finding
    print(f"{explored.target:18} {explored.runs:>10,} executions", "FAILED" if found else "")
    if found:
        print(f"{found}\ninput: {explored.input!r}", flush=True)
    return {
        "what": "decoder executions",
        "target": explored.target,
        "count": explored.runs,
        "failures": int(bool(found)),
        "peak_mib": explored.peak_mib,
        "slowest_seconds": explored.slowest_seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
