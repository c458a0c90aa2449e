"""Servers with few descriptors and many connections: others get through, and workers come back."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.grpc import http2_frames as frames
from support.asking import ask, connect, numbers
from support.custom import write_model
from support.serving import Server, serving, until

pytestmark = pytest.mark.e2e

INFER = "/v2/models/m/infer"
LIMIT = 128
# What a worker says about its own limit.
TELLS = """
import resource
return np.array([float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])])
"""


def limited(folder: Path, soft: int, hard: int) -> Path:
    """An interpreter whose processes may open so many descriptors."""
    python = folder / "python"
    python.write_text(
        f'#!/bin/sh\nulimit -Sn {soft}\nulimit -Hn {hard}\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    return python


@contextlib.contextmanager
def idle(
    server: Server, address: str, count: int, greeting: bytes
) -> Iterator[list[socket.socket]]:
    """So many connections that send a greeting and nothing else."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 500)), hard))
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            sock = stack.enter_context(connect(address, 60))
            sock.sendall(greeting)
            found.append(sock)
        yield found
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def grpc_of(server: Server) -> str:
    return f"http://{server.announced['grpc']}"


def busy_time(server: Server) -> float:
    """Seconds of the processor that the front process has used."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("core", ["--native-grpc", "--no-native-grpc"])
@pytest.mark.parametrize(
    "greeting", [frames.PREFACE + frames.settings({}), b""], ids=["h2", "silent"]
)
def test_idle_grpc_connections_keep_nobody_out(tmp_path: Path, core: str, greeting: bytes) -> None:
    model = write_model(tmp_path, "return x")
    python = limited(tmp_path, LIMIT, LIMIT)
    with serving(model, core, python=python) as server:
        assert "--max-connections" in server.log()
        (worker,) = server.workers()
        with idle(server, grpc_of(server), 1100, greeting):
            assert ask(server.http, "GET", "/v2/health/ready").status == 200
            assert ask(server.http, "POST", INFER, numbers(1)).status == 200
            assert ask(server.metrics, "GET", "/metrics").status == 200
            os.kill(worker, signal.SIGKILL)
            until(lambda: server.workers() not in ([worker], []), 60, "another worker")
            assert ask(server.http, "POST", INFER, numbers(1)).status == 200


def test_idle_http_connections_make_way_for_others(tmp_path: Path) -> None:
    model = write_model(tmp_path, "return x")
    request = b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n"
    with (
        serving(model, python=limited(tmp_path, LIMIT, LIMIT)) as server,
        idle(server, server.http, 300, request),
    ):
        assert ask(server.http, "POST", INFER, numbers(1)).status == 200
        assert ask(server.metrics, "GET", "/metrics").status == 200


def test_the_limit_is_raised_as_far_as_it_can_be_and_workers_do_not_notice(tmp_path: Path) -> None:
    model = write_model(tmp_path, TELLS)
    with serving(model, python=limited(tmp_path, 200, 4000)) as server:
        text = Path(f"/proc/{server.process.pid}/limits").read_text()
        line = next(line for line in text.splitlines() if line.startswith("Max open files"))
        assert line.split()[3:5] == ["4000", "4000"]
        assert ask(server.http, "POST", INFER, numbers(1)).json["outputs"][0]["data"] == [200]
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        until(lambda: server.workers() not in ([worker], []), 60, "another worker")
        assert ask(server.http, "POST", INFER, numbers(1)).json["outputs"][0]["data"] == [200]
