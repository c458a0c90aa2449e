"""A service manager's side: it starts a server, waits for its word, and stops it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.asking import ask
from support.custom import write_model
from support.serving import starting

pytestmark = pytest.mark.e2e


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.settimeout(120)
        bound.bind(str(tmp_path / "notify"))
        yield bound


def test_a_manager_is_told_that_the_server_is_ready_once_its_models_are_and_that_it_stops(
    tmp_path: Path, manager: socket.socket
):
    folder = write_model(tmp_path, load="open(os.path.join(HERE, 'begin')).read()")
    os.mkfifo(folder / "begin")

    with starting(folder, env={"NOTIFY_SOCKET": manager.getsockname()}) as server:
        server.wait_listening()
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(4096)
        manager.settimeout(120)
        (folder / "begin").write_text("now")

        ready = manager.recv(4096).decode()
        assert ready.startswith(f"READY=1\nSTATUS=headrace serves at {server.http}")
        assert ask(server.http, "GET", "/v2/health/ready").status == 200
        server.signal(signal.SIGTERM)
        assert manager.recv(4096).decode().startswith("STOPPING=1\n")
        assert server.wait(60) == 0


def test_a_watchdog_is_fed_as_long_as_the_server_answers(tmp_path: Path, manager: socket.socket):
    variables = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "20000"}

    with starting(write_model(tmp_path), env=variables) as server:
        assert manager.recv(4096).startswith(b"READY=1")
        assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        # A server that hangs feeds nothing: all that it has sent is read, and then nothing comes.
        server.process.send_signal(signal.SIGSTOP)
        os.waitpid(server.process.pid, os.WUNTRACED)
        manager.setblocking(False)
        read = 0
        with suppress(BlockingIOError):
            while manager.recv(4096):
                read += 1
        # The buffer of the socket holds fewer than this.
        assert read < 1000
        manager.settimeout(120)
        server.process.send_signal(signal.SIGCONT)
        assert manager.recv(4096) == b"WATCHDOG=1"
