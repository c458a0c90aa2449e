"""The servers under test as child processes: started, awaited, measured, stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.result_files import ROOT, NoResult

START_TIMEOUT = 600.0
STOP_TIMEOUT = 10.0
HEALTH = {
    "tracking": "/health",
    "starlette": "/health",
    "bentoml": "/readyz",
    "bentoml-legacy": "/readyz",
}
UVICORN = ("--loop", "uvloop", "--http", "httptools", "--no-access-log")
CORES = {
    "headrace-grpcio": ["--no-native-grpc"],
    "headrace-native-grpc": ["--native-grpc"],
}
PLUGINS = {
    "headrace-plugin": "benchmarks.image.plugins:Single",
    "headrace-plugin-batched": "benchmarks.image.plugins:Batched",
}
OURS = ("/v2/health/live", "/v2/health/ready")
# Python reads an empty value as none: modules are compiled once, as after an installation by pip.
WITH_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
# What `stop_all` stops.
_up: list[Server] = []


class NotStarted(NoResult):
    """A server ended, or was not ready in time."""


class Server:
    """One running server; `live_after` and `ready_after` are seconds since it was started."""

    def __init__(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        port: int,
        grpc_port: int,
        began: float,
    ) -> None:
        self.name = name
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.grpc = f"127.0.0.1:{grpc_port}"
        self._began = began
        self.live_after = 0.0
        self.ready_after = 0.0

    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._began

    def processes(self) -> dict[str, list[int]]:
        """The process ids: `front`, which was started, and `workers`, all its descendants."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    children.setdefault(_parent(entry), []).append(int(entry.name))
        found, todo = [], [self.process.pid]
        while todo:
            below = children.get(todo.pop(), [])
            found += below
            todo += below
        return {"front": [self.process.pid], "workers": sorted(found)}

    def memory_mb(self) -> dict[str, float]:
        """Resident megabytes of the front and of the workers together, and the PSS of all."""
        processes = self.processes()
        sizes = {kind: _memory(ids, "Rss:") for kind, ids in processes.items()}
        sizes["pss"] = _memory([pid for ids in processes.values() for pid in ids], "Pss:")
        return sizes

    def cpu_seconds(self) -> dict[str, float]:
        """Processor seconds used so far by the front and by the workers together."""
        return {kind: sum(_cpu(pid) for pid in ids) for kind, ids in self.processes().items()}

    def cpu_seconds_each(self) -> dict[int, float]:
        """Processor seconds used so far, by process."""
        return {pid: _cpu(pid) for ids in self.processes().values() for pid in ids}


@dataclass(frozen=True)
class Launch:
    """How a server is started.

    `live` is the path that answers 200, or "" where only gRPC is. The commands beside `python` are
    first on its path.
    """

    name: str
    command: Sequence[str]
    live: str
    port: int
    grpc_port: int
    environ: Mapping[str, str] = field(default_factory=dict)
    folder: Path = ROOT
    python: Path = Path(sys.executable)
    timeout: float = START_TIMEOUT


@contextmanager
def running(
    name: str,
    argument: Path,
    log: Path,
    environ: Mapping[str, str] | None = None,
    command: Callable[[str, int], list[str]] | None = None,
    flags: Sequence[str] = (),
) -> Iterator[Server]:
    """The server `name`, ready: `argument` is its model.

    `environ` is added to the environment, and `flags` to the command. `command` says how a server
    is started on a port that this module does not know.

    Raises:
        NotStarted: it ended or was not ready in time; `log` has its output.
    """
    port, grpc_port, metrics_port = free_ports(3)
    ports = {"--http-port": port, "--grpc-port": grpc_port, "--metrics-port": metrics_port}
    line = command(name, port) if command else _command(name, argument, ports)
    line += flags
    live, ready = OURS if name.startswith("headrace") else (HEALTH[name],) * 2
    with started(Launch(name, line, live, port, grpc_port, environ or {}), log) as server:
        server.ready_after = _answers(server, ready, log, START_TIMEOUT)
        yield server


@contextmanager
def started(launch: Launch, log: Path) -> Iterator[Server]:
    """The server that `launch` describes, live; it is stopped in the end.

    Raises:
        NotStarted: it ended or was not live in time; `log` has its output.
    """
    # `mlflow models serve` looks for uvicorn on the path.
    path = os.pathsep.join([str(launch.python.parent), os.environ.get("PATH", os.defpath)])
    env = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **WITH_BYTECODE, **launch.environ}
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            launch.command,
            cwd=launch.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(launch.name, process, launch.port, launch.grpc_port, began)
    _up.append(server)
    try:
        server.live_after = _answers(server, launch.live, log, launch.timeout)
        yield server
    finally:
        _end(server)


def stop_all() -> None:
    """Stop the servers that are still up, also those that another thread has started."""
    for server in list(_up):
        _end(server)


def _command(name: str, argument: Path, ports: Mapping[str, int]) -> list[str]:
    port = ports["--http-port"]
    if name == "starlette":
        app = ["--factory", "benchmarks.image.app:create", "--port", str(port)]
        return [sys.executable, "-m", "uvicorn", *UVICORN, *app]
    flags = [word for flag, number in ports.items() for word in (flag, str(number))]
    named = [] if name == "headrace-many" else ["--name", "wine"]
    named += CORES.get(name, [])
    if name in PLUGINS:
        module, _, plugin = PLUGINS[name].partition(":")
        named += ["--plugin", module, "--plugin-class", plugin]
    return [sys.executable, "-m", "headrace", "serve", str(argument), *named, *flags]


def _answers(server: Server, path: str, log: Path, timeout: float) -> float:
    """Wait for a 200, or without a path for gRPC's port; returns the seconds since the start."""
    while (taken := server.age()) < timeout:
        if server.process.poll() is not None:
            raise NotStarted(f"{server.name} ended:\n{tail(log)}")
        with suppress(OSError):
            if not path:
                host, _, port = server.grpc.partition(":")
                socket.create_connection((host, int(port)), timeout).close()
                return server.age()
            with urllib.request.urlopen(server.url + path, timeout=timeout) as response:
                if response.status == 200:
                    return server.age()
        time.sleep(0.02)
    raise NotStarted(f"{server.name} was not ready after {taken:.0f} s:\n{tail(log)}")


def _end(server: Server) -> None:
    """Stop the server, and kill what is left of it."""
    below = server.processes()["workers"]
    try:
        server.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(STOP_TIMEOUT)
    finally:
        # Also if Ctrl-C is pressed again while it stops. The process group is its own, so no other
        # process is in it.
        with suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        # Some start their workers in sessions of their own.
        for pid in below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.process.wait(STOP_TIMEOUT)
        with suppress(ValueError):
            _up.remove(server)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now, no two of them the same."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def tail(log: Path) -> str:
    """The end of a server's output."""
    return log.read_text(errors="replace")[-1500:]


def _parent(entry: Path) -> int:
    # The second field, the name, may hold spaces and brackets.
    return int((entry / "stat").read_text().rpartition(")")[2].split()[1])


def _cpu(pid: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def held_mb(pids: list[int]) -> float:
    """Megabytes that processes hold: their own memory, and once each the memory files they share.

    Pages of other files are left out: processes that have nothing to do with them share them too.
    The share of each process in a memory file would be that of another moment.
    """
    files: dict[int, int] = {}
    for pid in pids:
        with suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    if os.readlink(entry.path).startswith("/memfd:"):
                        found = os.stat(entry.path)
                        files[found.st_ino] = found.st_blocks * 512
    return _memory(pids, "Pss_Anon:") + sum(files.values()) / 1024**2


def _memory(pids: list[int], field: str) -> float:
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(field):
                    total += int(line.split()[1])
    return total / 1024
