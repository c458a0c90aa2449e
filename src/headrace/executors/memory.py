"""How much memory a worker holds, and how much is free for another one or for a model."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path


def has_room_beside(pid: int, root: Path = Path("/")) -> bool:
    """Whether a copy of this process fits into free memory: the machine's, and the container's.

    Sources: proc(5), and `memory.max`, `memory.current` and `memory.stat` of control groups,
    version 2. True where neither can be read.
    """
    try:
        held = int((root / f"proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
        free = min(_free(root))
    except (OSError, ValueError, IndexError):
        return True
    return held <= free


def has_room_for(size: int, root: Path = Path("/")) -> bool:
    """Whether so many bytes fit into free memory; True where it cannot be read."""
    try:
        return size <= min(_free(root))
    except (OSError, ValueError, KeyError):
        return True


def _free(root: Path) -> Iterator[int]:
    yield _fields(root / "proc/meminfo")["MemAvailable:"] * 1024
    with contextlib.suppress(OSError, ValueError):
        group = (root / "proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
        top = root / "sys/fs/cgroup"
        for folder in (top / group, *(top / group).parents):
            with contextlib.suppress(OSError, ValueError):
                # `max`, which is no number, means that there is no limit.
                limit = int((folder / "memory.max").read_text())
                # What files occupy is given back when memory is short.
                files = _fields(folder / "memory.stat")["inactive_file"]
                yield limit - int((folder / "memory.current").read_text()) + files
            if folder == top:
                break


def _fields(path: Path) -> dict[str, int]:
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1}
