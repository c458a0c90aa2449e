"""What a server holds: descriptors, threads, processes, files and series of metrics."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from support.asking import ask
from support.serving import Server

# asyncio starts these when they are needed first, and keeps them.
KEPT_THREADS = min(32, (os.cpu_count() or 1) + 4)


class Held(NamedTuple):
    """Counts of one moment.

    `descriptors`, `threads` and `shared_memory`, which is what it maps, are the front process's.
    """

    descriptors: int
    threads: int
    processes: int
    shared_memory: int
    files: int
    series: int

    def more_than(self, before: Held) -> dict[str, int]:
        """What there is more of than before, and how much."""
        expected = before._replace(threads=before.threads + KEPT_THREADS)
        pairs = zip(self._fields, self, expected, strict=True)
        return {name: now - then for name, now, then in pairs if now > then}


def held(server: Server, folder: Path) -> Held:
    """What a server holds now; its temporary files are below `folder`."""
    front = Path(f"/proc/{server.process.pid}")
    maps = (front / "maps").read_text().splitlines()
    lines = ask(server.metrics, "GET", "/metrics").body.decode().splitlines()
    return Held(
        len(list((front / "fd").iterdir())),
        len(list((front / "task").iterdir())),
        len(server.workers()),
        sum("/dev/shm/" in line or "/memfd:" in line for line in maps),
        sum(1 for path in folder.rglob("*") if path.is_file()),
        sum(1 for line in lines if line[:1] not in ("#", "")),
    )


def resident_mb(pid: int) -> float:
    """The memory of a process that is not shared with files, in MB; 0 if it has gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    return 0.0
