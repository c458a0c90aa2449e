"""How much memory a worker holds, and how much is free for another one or for a model."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

from headrace.executors import control_groups

# Of versions 2 and 1 of control groups: the limit, what is held, and what of that are files.
FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def has_room_beside(pid: int, root: Path = Path("/")) -> bool:
    """Whether a copy of this process fits into free memory: the machine's, and the container's.

    Source: proc(5). True where neither can be read.
    """
    try:
        held = int((root / f"proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
        free = min(_free(root))
    except (OSError, ValueError, LookupError):
        return True
    return held <= free


def has_room_for(size: int, root: Path = Path("/")) -> bool:
    """Whether so many bytes fit into free memory; True where it cannot be read."""
    try:
        return size <= min(_free(root))
    except (OSError, ValueError, LookupError):
        return True


def _free(root: Path) -> Iterator[int]:
    yield _fields(root / "proc/meminfo")["MemAvailable:"] * 1024
    for folder in control_groups.folders("memory", root):
        for limit, current, files in FILES:
            # `max`, which is no number, means that there is no limit.
            with contextlib.suppress(OSError, ValueError, KeyError):
                held = int((folder / current).read_text())
                # What files occupy is given back when memory is short.
                spare = _fields(folder / "memory.stat")[files]
                yield int((folder / limit).read_text()) - held + spare


def _fields(path: Path) -> dict[str, int]:
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1}
