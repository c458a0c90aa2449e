"""A line on the terminal that shows how far long work has come; nowhere else is it written."""

from __future__ import annotations

import sys
import threading
import time

# Seconds before the line appears, and between its changes.
PATIENCE = 0.5
REDRAW = 0.1
WIDTH = 30


class ProgressBar:
    """Shows how much of `total` bytes is done while its `with` block runs.

    Nothing is written unless standard error is a terminal, nor for work that is done at once.
    Threads may share it.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._live = bool(sys.stderr and sys.stderr.isatty())
        self._next = time.monotonic() + PATIENCE
        self._shown = False
        self._lock = threading.Lock()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def advance(self, count: int) -> None:
        """Add `count` bytes to what is done."""
        if not self._live:
            return
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now >= self._next:
                self._next, self._shown = now + REDRAW, True
                self._draw()

    def _draw(self) -> None:
        if not self._total:
            sys.stderr.write(f"\r{self._what}: {size_text(self._done)}\x1b[K")
        else:
            share = min(1.0, self._done / self._total)
            bar = "#" * round(share * WIDTH)
            sys.stderr.write(
                f"\r{self._what} [{bar:<{WIDTH}}] {share:4.0%} of {size_text(self._total)}\x1b[K"
            )
        sys.stderr.flush()


def size_text(count: int) -> str:
    """A number of bytes, for people."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
