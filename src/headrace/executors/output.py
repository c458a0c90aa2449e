"""What a worker prints, passed on to the server's standard error up to a bound."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time

from headrace.executors.worker_program import PIPE_SIZE

# A model that prints faster than this loses the rest, so that no log fills a disk.
BURST = 1024 * 1024
BYTES_PER_SECOND = 64 * 1024
# After a worker has ended; anything that still prints then is a process it left behind.
LAST_READS = 16
# How long lines are dropped before the log says so, in seconds.
REPORT_AFTER = 1.0


class Output:
    """The reading end of a worker's standard output and error.

    Neither side waits: the worker may print as fast as it likes, and output beyond the
    bound is read and dropped.
    """

    def __init__(self, fd: int, pid: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._pid = pid
        self._allowance = float(BURST)
        self._then = time.monotonic()
        self._dropped = 0
        self._report: asyncio.TimerHandle | None = None
        asyncio.get_running_loop().add_reader(fd, self._on_readable)

    def close(self) -> None:
        """Pass on what is left and close; a child of the worker may hold the other end."""
        if self._fd < 0:
            return
        for _ in range(LAST_READS):
            if not self._read():
                break
        self._end()

    def _on_readable(self) -> None:
        if self._read() is None:
            self._end()

    def _read(self) -> bool | None:
        """Pass on what is there; False if there is nothing, None at the end."""
        try:
            data = os.read(self._fd, PIPE_SIZE)
        except BlockingIOError:
            return False
        except OSError:
            return None
        if not data:
            return None
        self._pass_on(data)
        return True

    def _pass_on(self, data: bytes) -> None:
        now = time.monotonic()
        refill = (now - self._then) * BYTES_PER_SECOND
        self._allowance = min(float(BURST), self._allowance + refill)
        self._then = now
        kept = data
        if len(data) > self._allowance:
            # Cut at the end of a line, or the next worker's line would continue this one.
            kept = data[: data.rfind(b"\n", 0, int(self._allowance)) + 1]
            self._drop(len(data) - len(kept))
        self._allowance -= len(kept)
        _write(kept)

    def _drop(self, count: int) -> None:
        self._dropped += count
        if self._report is None:
            loop = asyncio.get_running_loop()
            self._report = loop.call_later(REPORT_AFTER, self._report_dropped)

    def _report_dropped(self) -> None:
        self._report = None
        if self._dropped:
            line = f"headrace: dropped {self._dropped} bytes that worker {self._pid} printed\n"
            self._dropped = 0
            _write(line.encode())

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        if self._report is not None:
            self._report.cancel()
        self._report_dropped()


def _write(data: bytes) -> None:
    # A log that nobody reads must never fail a request.
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.write(sys.stderr.fileno(), data)
