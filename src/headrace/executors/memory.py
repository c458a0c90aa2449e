"""How much memory a worker holds, and how much is free for another one or for a model."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from headrace.executors import control_groups

# Of versions 2 and 1 of control groups: the limit, what is held, and what of that are files.
FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
# Of both versions, where a group says how many of its processes were killed because memory ran out.
KILLS = ("memory.events", "memory.oom_control")


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


class OutOfMemory:
    """Finds out whether the kernel has killed processes for lack of memory since the last look.

    It counts those of this process's control group, or else of the machine.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._kills = self._count()

    def has_struck(self) -> bool | None:
        """Whether it has since this was last asked; None where that cannot be known."""
        before, self._kills = self._kills, self._count()
        if before is None or self._kills is None:
            return None
        return self._kills > before

    def _count(self) -> int | None:
        counters = (
            folder / name for folder in control_groups.folders("memory", self._root)
            for name in KILLS
        )  # fmt: skip
        for file in (*counters, self._root / "proc/vmstat"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                return _fields(file)["oom_kill"]
        return None


@lru_cache(1)
def out_of_memory() -> OutOfMemory:
    """What is asked at each death of a worker in this process."""
    return OutOfMemory()


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
