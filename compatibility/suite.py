"""What a suite is, and what running one gives."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Outcome = Literal["passed", "failed", "skipped"]


class SuiteFailed(Exception):
    """The suite did not run, so that there is no result."""


@dataclass(frozen=True)
class Case:
    """One test, example or call of a suite.

    `id` is unique in its suite, `area` is the row of the table that counts it, and `reason` says
    why it failed or was skipped, in one line.
    """

    area: str
    id: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True)
class Setting:
    """Where a suite runs: its source, the interpreter of its environment, scratch space.

    `original` is the interpreter of the other program's environment, for suites that compare.
    """

    source: Path
    folder: Path
    python: str = sys.executable
    options: list[str] = field(default_factory=list)
    original: str = ""


@dataclass(frozen=True)
class Suite:
    """A suite of somebody else: what it is, where to get it, and how to run it.

    `get` is one or more shell commands that bring the source and make the environment; the page
    prints them in front of the command that runs the suite with `arguments`.
    """

    title: str
    version: str
    url: str
    get: str
    arguments: str
    run: Callable[[Setting], Iterable[Case]]
