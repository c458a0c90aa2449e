"""A small cluster of Ray on this machine, in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from support.asking import Client, numbers
from support.clients import SCRIPTS, environment
from support.serving import until

# Seconds for whatever Ray does, on a slow machine: it starts, deploys, scales, and stops.
PATIENCE = 180
VARIABLES = {
    # Nothing leaves the machine, and nothing is written to the home folder.
    **{"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"},
    # Ray's processes give way to all others by default, also to the test.
    "RAY_worker_niceness": "0",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "headrace.ray:repeat_unanswered",
    # Scales within seconds; both are 10 s otherwise.
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
}


class RayFailed(Exception):
    """What Ray raised."""


class Cluster:
    """A running cluster. `http` and `metrics` are the URLs of its proxy and of Ray's metrics."""

    def __init__(self) -> None:
        self.python = environment("ray", ours=True)
        # The paths of its sockets may have 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        port, metrics_port = _free_port(), _free_port()
        self.http = f"http://127.0.0.1:{port}"
        self.metrics = f"http://127.0.0.1:{metrics_port}"
        self.variables = {**os.environ, **VARIABLES, "HEADRACE_HOME": str(self.folder / "home")}
        with (self.folder / "log").open("wb") as log:
            self._driver = subprocess.Popen(
                [self.python, SCRIPTS / "ray_driver.py", port, metrics_port, str(self.folder)],
                env=self.variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.address: str = self._read()

    def log(self) -> str:
        """All that the driver, the replicas and Ray itself wrote so far."""
        return (self.folder / "log").read_text(errors="replace")

    def do(self, verb: str, **arguments: Any) -> Any:
        """What the function of that name in the driver returns.

        Raises:
            RayFailed: it failed.
        """
        assert self._driver.stdin is not None
        print(json.dumps([verb, arguments]), file=self._driver.stdin, flush=True)
        answer = self._read()
        if "error" in answer:
            raise RayFailed(answer["error"])
        return answer["done"]

    def run(self, source: object, name: str, **arguments: Any) -> None:
        """Serve a source below `/{name}`; returns when it is ready."""
        self.do("run", arguments={"source": str(source), **arguments}, name=name, prefix=f"/{name}")

    def running(self, name: str) -> int:
        """How many replicas an application has; 0 while they become more or fewer."""
        replicas = self.do("status", name=name)["replicas"]
        return replicas.get("RUNNING", 0) if set(replicas) == {"RUNNING"} else 0

    def wait_for(self, name: str, replicas: int) -> None:
        until(lambda: self.running(name) == replicas, PATIENCE, f"{replicas} replicas run")

    def close(self) -> None:
        assert self._driver.stdin is not None
        with suppress(BrokenPipeError):
            self._driver.stdin.close()
        try:
            self._driver.wait(PATIENCE)
        finally:
            assert self._driver.stdout is not None
            self._driver.stdout.close()
            # The driver's processes are of its session, as long as it has not ended them.
            with suppress(ProcessLookupError):
                os.killpg(self._driver.pid, signal.SIGKILL)
            self._driver.wait()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> Any:
        assert self._driver.stdout is not None
        line = self._driver.stdout.readline()
        assert line, f"the driver ended; its log:\n{self.log()}"
        return json.loads(line)


def _free_port() -> str:
    # Ray cannot be given a port of 0: it says nowhere which one it took.
    with socket.create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster that has started."""
    started = Cluster()
    try:
        yield started
    finally:
        started.close()


class Load:
    """Clients that ask one model for two numbers, all the time.

    `answers` has the outputs of each answer by name, and `failures` whatever was not an answer.
    """

    def __init__(self, url: str, path: str, clients: int) -> None:
        self.answers: list[dict[str, list[float]]] = []
        self.failures: list[object] = []
        self._url = url
        self._path = path
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def answered(self, more: int) -> None:
        """Wait for that many more answers, or failures."""
        enough = len(self.answers) + len(self.failures) + more
        until(lambda: len(self.answers) + len(self.failures) >= enough, PATIENCE, "answers come")

    def seen(self, output: str) -> set[tuple[float, ...]]:
        """The different values of an output in the answers so far."""
        return {tuple(answer[output]) for answer in list(self.answers)}

    def _ask(self) -> None:
        with Client(self._url) as client:
            while not self._end.is_set():
                try:
                    answer = client.ask("POST", self._path, numbers(1, 2))
                    outputs = answer.json["outputs"]
                except Exception as error:
                    self.failures.append(error)
                else:
                    self.answers.append({each["name"]: each["data"] for each in outputs})
