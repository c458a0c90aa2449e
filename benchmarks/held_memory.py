"""How much memory a server holds, together with the process that decodes for it."""

from __future__ import annotations

import threading
from pathlib import Path

STEP = 0.002


def decoders(server: int) -> list[int]:
    tasks = Path(f"/proc/{server}/task").glob("*/children")
    children = [int(pid) for task in tasks for pid in task.read_text().split()]
    named = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    return [pid for pid, command in named.items() if b"headrace.decoding" in command]


class Memory(threading.Thread):
    """Watches how much a server and the process that decodes for it hold."""

    def __init__(self, pids: list[int]) -> None:
        super().__init__(daemon=True)
        self._pids = pids
        self._is_over = threading.Event()
        self.idle_mb = self.most_mb = self._held_mb()
        self.start()

    def run(self) -> None:
        """Look again and again; for `start` alone to call."""
        while not self._is_over.wait(STEP):
            self.most_mb = max(self.most_mb, self._held_mb())

    def stop(self) -> float:
        """The most that they held more than at the beginning."""
        self._is_over.set()
        self.join()
        return self.most_mb - self.idle_mb

    def _held_mb(self) -> float:
        own, shared = 0, [0]
        for pid in self._pids:
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name == "RssAnon":
                    own += int(value.split()[0])
                elif name == "RssShmem":
                    shared.append(int(value.split()[0]))
        return (own + max(shared)) / 1024
