"""An MLflow tracking server with a registry, as a child process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

START_TIMEOUT = 300
STOP_TIMEOUT = 20
# No test submits a job, and the process that runs them takes as long to start as the server.
ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


class TrackingServer:
    """`mlflow server` with its database and artifacts in `folder`; may be killed and started again.

    `environ` is added to its environment. `url` is empty until it has started.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.url = ""
        self._folder = folder
        self._environ = environ or {}
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers, on the port that it had before."""
        for _ in range(3):
            port = self._port or _free_port()
            self._process = process = _start(self._folder, port, self._environ)
            # Another process may have taken the port in the meantime; then the server exits.
            if _answers(process, port):
                self._port, self.url = port, f"http://127.0.0.1:{port}"
                return
            self.stop()
        log = (self._folder / "log").read_text()[-3000:]
        raise AssertionError(f"mlflow server does not start:\n{log}")

    def kill(self) -> None:
        """End it, and all its processes, without a chance to finish anything."""
        assert self._process is not None, "it was started"
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            _stop(self._process)


@contextmanager
def tracking_server(folder: Path, environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """The URL of a tracking server that runs until the end of the block."""
    server = TrackingServer(folder, environ)
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


def _start(folder: Path, port: int, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **ENVIRONMENT, **environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # A group of its own, because it starts processes of its own.
            start_new_session=True,
        )


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        if _is_healthy(port):
            # Someone else's server on that port would outlive ours.
            return process.poll() is None
        time.sleep(0.2)
    return False


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.read() == b"OK")
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
