"""The faults that the server must survive: declared with the tests that cause them.

`make faults` causes each a few times, `make faults-long` at least fifty times. From this table come
the order and the plan of a run, the files of results, and the rows of RELIABILITY.md.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "faults"
RESULTS = ROOT / "benchmarks" / "results" / "faults"
Test = TypeVar("Test", bound=Callable[..., None])
FAULTS: dict[str, Fault] = {}


@dataclass(frozen=True)
class Fault:
    """One fault.

    `promise` is what holds whatever happens: a test fails where it does not. `bar` is what is aimed
    at besides; the page shows what was reached. It is caused `per_round` times in each round, which
    takes about `each` seconds a time, and `fixed` seconds once. Those of `priority` 1 run first.
    """

    name: str
    promise: str
    bar: str
    per_round: int
    each: float
    fixed: float
    priority: int
    file: str
    test: str

    def seconds(self, rounds: int) -> float:
        """About how long it takes."""
        return self.fixed + rounds * self.per_round * self.each

    @property
    def result(self) -> Path:
        return RESULTS / f"{self.name}.json"


def fault(
    name: str,
    *,
    promise: str,
    bar: str,
    each: float,
    per_round: int = 1,
    fixed: float = 4.0,
    priority: int = 2,
) -> Callable[[Test], Test]:
    """Declare the fault that a test causes."""

    def declare(test: Test) -> Test:
        file = Path(test.__code__.co_filename).name
        declared = Fault(name, promise, bar, per_round, each, fixed, priority, file, test.__name__)
        assert FAULTS.get(name, declared) == declared, f"two faults are named {name}"
        FAULTS[name] = declared
        vars(test)["fault"] = declared
        return test

    return declare


def every() -> dict[str, Fault]:
    """All faults, by name, in the order of their files."""
    for path in sorted(FOLDER.glob("test_*.py")):
        name = f"faults.{path.stem}"
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None
            assert spec.loader is not None
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
    return dict(sorted(FAULTS.items(), key=lambda item: item[1].file))
