"""Where the results of the benchmarks are, and how they are read and written."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
# Of quick runs, whose figures mean little; git ignores it.
OUT = ROOT / "benchmarks" / "out"


class NoResult(Exception):
    """Nothing could be measured; the message says why."""


def place(name: str, folder: Path = RESULTS) -> Path:
    """The file of a result, once it is sure that it can be written.

    Ask before measuring, which may take half an hour.

    Raises:
        NoResult: the folder cannot be made or written to.
    """
    path = folder / f"{name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise NoResult(f"the result cannot be written to {path}: {error.strerror}") from None
    return path


def write(path: Path, result: Any) -> None:
    """Write a result, whole or not at all, and print where it is."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(path)
    print(f"written to {os.path.relpath(path)}")


def read(path: Path) -> Any:
    """What a file of results holds.

    Raises:
        NoResult: it is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise NoResult(
            f"{path} is not JSON ({error}); `git checkout {os.path.relpath(path)}` restores it"
        ) from None
