"""Starts `headrace serve` as a child process and checks that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import headrace

MAIN = ["-c", "import sys; from headrace.cli.main import main; sys.exit(main())"]
COMMAND = [sys.executable, *MAIN]
# Every process of a server carries this variable, so that none can hide.
MARK = "HEADRACE_TEST_SERVER"
FREE_PORTS = ("--http-port", "0", "--metrics-port", "0")
LISTENING = re.compile(r"listening on (http://[^\s\"]+)")


class Server:
    """A running server. `http` and `metrics` are its announced URLs, without a trailing slash."""

    def __init__(
        self,
        arguments: tuple[object, ...],
        env: Mapping[str, str] | None,
        python: Path | str = sys.executable,
        ports: Sequence[str] = FREE_PORTS,
    ) -> None:
        self.http = ""
        self.metrics = ""
        self.announced: dict[str, str] = {}
        self.signalled = False
        self._folder = Path(tempfile.mkdtemp(prefix="headrace-test-"))
        self._mark = uuid.uuid4().hex
        self._ready, ready_fd = os.pipe()
        flags = [*ports, "--ready-fd", str(ready_fd)]
        with (self._folder / "out").open("wb") as out, (self._folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [str(python), *MAIN, "serve", *flags, *map(str, arguments)],
                pass_fds=[ready_fd],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=self._environment(env or {}),
            )
        os.close(ready_fd)

    def log(self) -> str:
        """All that the server and its workers wrote to standard error so far."""
        return (self._folder / "log").read_text(errors="replace")

    def output(self) -> str:
        """All that the server wrote to standard output so far."""
        return (self._folder / "out").read_text(errors="replace")

    def wait_listening(self, timeout: float = 120) -> None:
        """Wait for the HTTP port to open; models may still be loading."""
        found: list[str] = []

        def listens() -> bool:
            self._require_alive("before it listened")
            found[:] = LISTENING.findall(self.log())
            return bool(found)

        until(listens, timeout, "the server listens")
        self.http = found[0]

    def wait_ready(self, timeout: float = 180) -> None:
        """Wait for the addresses on --ready-fd."""
        line = b""
        deadline = time.monotonic() + timeout
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if not select.select([self._ready], [], [], max(0.0, left))[0]:
                raise AssertionError(f"not ready within {timeout} s; its log:\n{self.log()}")
            part = os.read(self._ready, 4096)
            if not part:
                self.wait(5)
                self._require_alive("before it was ready")
            line += part
        self.announced = json.loads(line)
        self.http = self.announced["http"]
        self.metrics = self.announced["metrics"].removesuffix("/metrics")

    def wait(self, timeout: float) -> int:
        """The exit code; the process must end in time."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {timeout} s; its log:\n{self.log()}") from None

    def workers(self) -> list[int]:
        """Process ids of everything alive that the server started, directly or indirectly."""
        marker = f"{MARK}={self._mark}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if marker in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return sorted(pid for pid in found if pid != self.process.pid)

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal; the first one of a test replaces the SIGTERM at its end."""
        self.signalled = True
        self.process.send_signal(number)

    def close(self) -> None:
        """End and remove whatever is left."""
        for pid in [*([self.process.pid] if self.process.poll() is None else []), *self.workers()]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._ready)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _environment(self, env: Mapping[str, str]) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HEADRACE_", "MLSERVER_"))
        }
        source = str(Path(headrace.__file__).parents[1])
        path = os.pathsep.join(filter(None, [source, inherited.get("PYTHONPATH")]))
        home = {"HEADRACE_HOME": str(self._folder / "home")}
        return {**inherited, **home, "PYTHONPATH": path, **env, MARK: self._mark}

    def _require_alive(self, when: str) -> None:
        code = self.process.poll()
        if code is not None:
            raise AssertionError(f"the server exited with {code} {when}; its log:\n{self.log()}")


@contextmanager
def starting(
    *args: object,
    env: Mapping[str, str] | None = None,
    python: Path | str = sys.executable,
    ports: Sequence[str] = FREE_PORTS,
) -> Iterator[Server]:
    """A server that was just started and may not be listening yet; the test may end it itself."""
    server = Server(args, env, python, ports)
    try:
        yield server
    except Exception as error:
        # A client learns no more of a server's death than that its connection was closed.
        ended, log = server.process.poll(), server.log()[-9000:]
        error.add_note(f"the server's exit code: {ended}; the end of its log:\n{log}")
        raise
    finally:
        server.close()


@contextmanager
def serving(
    *args: object,
    env: Mapping[str, str] | None = None,
    timeout: float = 180,
    exit_code: int | None = 0,
    python: Path | str = sys.executable,
    ports: Sequence[str] = FREE_PORTS,
) -> Iterator[Server]:
    """A server that is ready, as `headrace serve *args`, on free ports unless `ports` differ.

    Afterwards it gets SIGTERM unless the test sent a signal, must exit with `exit_code` (None
    for any) within `timeout` seconds, and must leave no process behind.
    """
    with starting(*args, env=env, python=python, ports=ports) as server:
        server.wait_ready(timeout)
        yield server
        if not server.signalled:
            server.signal()
        code = server.wait(timeout)
        assert exit_code is None or code == exit_code, server.log()
        until(lambda: not server.workers(), 20, "no process is left")


def until(condition: Callable[[], Any], timeout: float, what: str) -> Any:
    """The first true value of `condition`, which is checked every few milliseconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.005)
    return value
