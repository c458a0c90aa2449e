"""A benchmark runs alone, says why it has no result, and leaves no server behind."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from benchmarks import result_files, session

ROOT = Path(__file__).parents[3]
# A server that says when it is told to stop, and does not.
STUBBORN = """
import signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: print("stopping", file=open(sys.argv[2], "w"), flush=True))
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    signal.pause()
"""
SERVES = """
import signal, sys
from pathlib import Path
from benchmarks import servers, session
from benchmarks.servers import Launch

def main():
    (port,) = servers.free_ports(1)
    command = [sys.executable, *sys.argv[1:], str(port), "told"]
    with servers.started(Launch("one", command, "", 0, port, folder=Path.cwd()), Path("log")) as up:
        print(up.process.pid, flush=True)
        signal.pause()

session.run(main, alone=False)
"""
OBEDIENT = STUBBORN.replace("lambda *_: ", "lambda *_: sys.exit() or ")


@contextmanager
def benchmark(folder: Path, server: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A benchmark that waits with one server up, and the process id of the server."""
    (folder / "server.py").write_text(server)
    with subprocess.Popen(
        [sys.executable, "-c", SERVES, "server.py"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# A command in the background of a script has it ignored, and so have the programs it starts.
takes_ctrl_c = pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN, reason="Ctrl-C is ignored here"
)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(signal.SIGINT, 130, marks=takes_ctrl_c),
        (signal.SIGTERM, 143),
        (signal.SIGHUP, 129),
    ],
)
def test_a_signal_ends_a_benchmark_and_its_server(tmp_path, number, status):
    with benchmark(tmp_path, OBEDIENT) as (process, server):
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)

    assert process.returncode == status, errors
    assert not runs(server)


@takes_ctrl_c
def test_a_second_ctrl_c_ends_a_server_that_does_not_stop(tmp_path):
    os.mkfifo(tmp_path / "told")
    with benchmark(tmp_path, STUBBORN) as (process, server):
        process.send_signal(signal.SIGINT)
        assert (tmp_path / "told").read_text() == "stopping\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    assert not runs(server)


def test_a_second_benchmark_is_refused_and_told_of_the_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(session, "LOCK", tmp_path / "cache" / "lock")

    def second() -> int:
        return 0

    def first() -> int:
        with pytest.raises(SystemExit) as ended:
            session.run(second)
        assert ended.value.code == session.NO_RESULT
        return 0

    with pytest.raises(SystemExit) as ended:
        session.run(first)

    assert ended.value.code == 0
    assert f"another benchmark is running (process {os.getpid()}" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setattr(session, "LOCK", tmp_path / "cache" / "lock")

    with pytest.raises(SystemExit) as ended:
        session.run(lambda: 0)

    assert ended.value.code == session.NO_RESULT
    assert "XDG_CACHE_HOME names another folder" in capsys.readouterr().err


def test_the_reason_of_a_missing_result_is_printed_without_a_traceback(capsys):
    def main() -> int:
        raise result_files.NoResult("wrk is not installed")

    with pytest.raises(SystemExit) as ended:
        session.run(main, alone=False)

    assert ended.value.code == session.NO_RESULT
    assert capsys.readouterr().err == "benchmarks: wrk is not installed\n"


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "two", ""])
def test_a_count_is_a_whole_number_from_one_on(text):
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 on"):
        session.count(text)
