"""A server under callgrind, which counts the instructions that each of its processes executes.

Counts barely depend on what else the machine does: two runs differ by about a percent in the front,
whose timers follow the clock, and by less in the worker. On a very busy machine it is more.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import servers
from benchmarks.result_files import NoResult

TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)
# The front waits for its workers another way where this call does not exist; valgrind has none.
START = """
import os, sys
vars(os).pop("pidfd_open", None)
from headrace.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
PARTS = 3
ANSWER_TIMEOUT = 120.0
CONTROL_TIMEOUT = 60
RECEIVE_SIZE = 64 * 1024


class CannotCount(NoResult):
    """valgrind is missing, or did not do what it was asked; there is no result."""


class Counted:
    """One running server whose front and worker are counted from the first `count` on."""

    def __init__(self, server: servers.Server, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._pids = {kind: pids[0] for kind, pids in server.processes().items()}
        for pid in self._pids.values():
            self._control("--instr=on", pid)

    def count(self, request: bytes, times: int, at_once: int, warm_up: int) -> dict[str, float]:
        """Send whole HTTP requests, and return the instructions of `front` and `workers` for each.

        With more than one `at_once`, all of them have arrived before the front reads the first,
        so that they are divided into the same batches. They are counted in `PARTS` parts, and the
        lowest count is returned: timers, which follow the clock, add to it on a busy machine.
        """
        with ExitStack() as stack:
            port = int(self._server.url.rpartition(":")[2])
            connections = [
                stack.enter_context(socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT))
                for _ in range(at_once)
            ]
            for _ in range(warm_up):
                self._ask(connections, request)
            for pid in self._pids.values():
                self._control("--zero", pid)
            each = max(1, times // PARTS)
            totals: dict[str, list[int]] = {kind: [] for kind in self._pids}
            for _ in range(PARTS):
                for _ in range(each):
                    self._ask(connections, request)
                for kind, pid in self._pids.items():
                    totals[kind].append(self._total(pid))
            return {kind: min(counts) / (each * at_once) for kind, counts in totals.items()}

    def _ask(self, connections: list[socket.socket], request: bytes) -> None:
        front = self._pids["front"]
        if len(connections) > 1:
            os.kill(front, signal.SIGSTOP)
        for connection in connections:
            connection.sendall(request)
        if len(connections) > 1:
            os.kill(front, signal.SIGCONT)
        for connection in connections:
            _receive(connection)

    def _total(self, pid: int) -> int:
        before = set(self._folder.glob(f"counts.{pid}.*"))
        self._control("--dump", pid)
        (dump,) = set(self._folder.glob(f"counts.{pid}.*")) - before
        found = TOTALS.search(dump.read_text())
        if found is None:
            raise CannotCount(f"callgrind wrote no total to {dump}")
        return int(found[1])

    def _control(self, what: str, pid: int) -> None:
        command = ["callgrind_control", _pipes(self._folder), what, str(pid)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=CONTROL_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise CannotCount(f"`{' '.join(command)}` did not end") from None
        if "OK" not in done.stdout:
            raise CannotCount(f"`{' '.join(command)}`: {done.stdout[-300:]}{done.stderr[-300:]}")


def require() -> None:
    """Raises CannotCount if valgrind is not installed."""
    if shutil.which("valgrind") is None or shutil.which("callgrind_control") is None:
        raise CannotCount(
            "valgrind, which counts, is not installed; on Debian and Ubuntu: "
            "apt-get install valgrind"
        )


@contextmanager
def counting(models: Path, source: Path, folder: Path) -> Iterator[Counted]:
    """Serve `models` with the code in `source`, under callgrind, which writes to `folder`.

    Raises:
        CannotCount: valgrind cannot be controlled.
        NotStarted: the server did not start.
    """
    folder.mkdir()
    # What a hash or an address decides is the same in every run.
    environ = {"PYTHONPATH": str(source), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}

    def command(name: str, port: int) -> list[str]:
        return [
            *("valgrind", "--tool=callgrind", "--instr-atstart=no", "--trace-children=yes"),
            _pipes(folder),
            f"--callgrind-out-file={folder}/counts.%p",
            *(sys.executable, "-c", START, "serve", str(models), "--env-manager", "local"),
            *("--http-port", str(port), "--grpc-port", "0", "--metrics-port", "0"),
            "--no-access-log",
        ]

    with servers.running("headrace", models, folder / "log", environ, command) as server:
        yield Counted(server, folder)


def _pipes(folder: Path) -> str:
    """Where callgrind is told what to do: by default in `TMPDIR`, of which each worker has one."""
    return f"--vgdb-prefix={folder}/vgdb"


def _receive(connection: socket.socket) -> None:
    """Receive one answer, which must be a 200 with a length."""
    received = b""
    while True:
        head, separator, body = received.partition(b"\r\n\r\n")
        if separator:
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            if not head.startswith(b"HTTP/1.1 200") or length is None:
                raise CannotCount(f"the server answered {received[:300]!r}")
            if len(body) >= int(length[1]):
                return
        part = connection.recv(RECEIVE_SIZE)
        if not part:
            raise CannotCount("the server closed the connection")
        received += part
