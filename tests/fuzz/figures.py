"""How much is tried, and what is written down of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# `make fuzz-long` asks for more than can be tried with every change.
IS_LONG = os.environ.get("HEADRACE_FUZZ") == "long"
SEED = int(os.environ.get("HEADRACE_FUZZ_SEED", "1"))
# A line of JSON for each figure, if somebody wants them.
FILE = os.environ.get("HEADRACE_FUZZ_FIGURES")


def amount(short: int, long: int) -> int:
    """How many cases to try."""
    return long if IS_LONG else short


class Tally:
    """Counts the cases of one figure."""

    def __init__(self) -> None:
        self.count = 0
        self.notes: dict[str, object] = {}


@contextmanager
def counted(what: str, target: str) -> Iterator[Tally]:
    """Write down how many cases were tried; one that raises is a failure, and the last."""
    tally, started = Tally(), time.monotonic()
    failures = 1
    try:
        yield tally
        failures = 0
    finally:
        record(what, target, tally.count, failures, time.monotonic() - started, **tally.notes)


def record(
    what: str, target: str, count: int, failures: int, seconds: float, **notes: object
) -> None:
    """Write a figure down."""
    if FILE:
        figure = {"what": what, "target": target, "count": count, "failures": failures}
        line = json.dumps({**figure, "seconds": round(seconds, 1), **notes})
        with Path(FILE).open("a") as file:
            file.write(line + "\n")
