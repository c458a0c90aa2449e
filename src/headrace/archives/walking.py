"""Reading folders that others made: they may change, be unreadable, or have circular links."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# The path of a folder, and the names of the folders and of the files in it.
Step = tuple[str, list[str], list[str]]


def walk(folder: str | os.PathLike[str], top_down: bool = True) -> Iterator[Step]:
    """`os.walk`, except that a folder which cannot be read is not taken for an empty one.

    Raises:
        OSError: one cannot be read, or is gone.
    """
    return os.walk(folder, topdown=top_down, onerror=_fail)


def _fail(error: OSError) -> None:
    raise error


def resolved(path: Path) -> Path:
    """`Path.resolve`, but circular links stay as they are, instead of raising RuntimeError."""
    return Path(os.path.realpath(path))
