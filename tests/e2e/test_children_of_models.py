"""Processes that models start: none of them outlives its worker or the server."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from support.asking import ask, numbers
from support.custom import write_model
from support.serving import Server, serving, starting, until

pytestmark = pytest.mark.e2e

INFER = "/v2/models/m/infer"
# What models do: programs, processes of Python, and programs whose parent is gone.
LOADS = {
    "a program": "__import__('subprocess').Popen(['sleep', '600'])",
    "a forked process": (
        "__import__('multiprocessing').get_context('fork')"
        ".Process(target=time.sleep, args=(600,), daemon=True).start()"
    ),
    "a forked process of a fork": (
        "if os.fork() == 0:\n    if os.fork() == 0:\n        time.sleep(600)\n    os._exit(0)"
    ),
    "a spawned process": (
        "__import__('multiprocessing').get_context('spawn')"
        ".Process(target=time.sleep, args=(600,), daemon=True).start()"
    ),
    "a program that takes no hint": (
        "__import__('subprocess').Popen(['sh', '-c', 'trap \"\" TERM HUP INT; sleep 600; :'])"
    ),
}
each_kind = pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)


def group(server: Server) -> list[int]:
    """The worker and what its model has started, once there is something."""
    return until(lambda: len(pids := server.workers()) > 1 and pids, 60, "a child of the model")


def children(server: Server, word: str) -> list[int]:
    """The live processes that the server itself has started, by a word of their command lines."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(") ")[2].split()[:2]
            is_live = state != "Z" and int(parent) == server.process.pid
            if is_live and word in (folder / "cmdline").read_text():
                found.append(int(folder.name))
    return found


def kill(server: Server) -> None:
    server.signal(signal.SIGKILL)
    server.wait(60)


def ask_twice(server: Server) -> None:
    server.signal()
    until(lambda: ask(server.http, "GET", "/v2/health/ready").status == 503, 20, "draining")
    server.signal()
    server.wait(60)


@each_kind
@pytest.mark.parametrize(
    ("end", "code"),
    [(kill, -9), (ask_twice, 1)],
    ids=["killed", "asked twice to end"],
)
def test_what_a_model_started_ends_with_the_server(
    tmp_path: Path, load: str, end: Callable[[Server], None], code: int
) -> None:
    # The delay keeps the server draining until it is asked again.
    with serving(write_model(tmp_path, load=load), "--drain-delay", 600, exit_code=code) as server:
        group(server)
        end(server)

        until(lambda: not server.workers(), 20, "nothing is left")


@each_kind
def test_what_a_model_started_ends_with_its_worker(tmp_path: Path, load: str) -> None:
    with serving(write_model(tmp_path, load=load)) as server:
        before = group(server)
        (worker,) = children(server, "worker")
        os.kill(worker, signal.SIGKILL)
        until(lambda: not set(before) & set(server.workers()), 60, "all of them are gone")

        assert ask(server.http, "POST", INFER, numbers(1)).status == 200


def test_what_ends_a_keeper_ends_no_worker_and_another_one_takes_over(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, load=LOADS["a program"]), exit_code=-9) as server:
        (first,) = children(server, "headrace-keeper")
        (worker,) = children(server, "worker")
        os.kill(first, signal.SIGKILL)
        os.kill(worker, signal.SIGKILL)
        until(
            lambda: children(server, "headrace-keeper") not in ([], [first]), 60, "another keeper"
        )
        assert ask(server.http, "POST", INFER, numbers(1)).status == 200
        group(server)
        kill(server)

        until(lambda: not server.workers(), 20, "nothing is left")


def test_a_fetch_ends_with_a_server_that_is_killed(tmp_path: Path) -> None:
    # It takes connections, and never answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        with starting("models:/m/1", env=env) as server:
            # The fetch has asked for the model.
            silent.settimeout(60)
            silent.accept()[0].close()
            kill(server)

            until(lambda: not server.workers(), 20, "no process is left")


def test_a_keeper_goes_before_the_server_and_after_a_large_worker_when_memory_is_short(
    tmp_path: Path,
) -> None:
    def expendable(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    if expendable(os.getpid()) > 400:
        pytest.skip("what is started here is too expendable already to be made more so")
    with serving(write_model(tmp_path)) as server:
        (keeper,) = children(server, "headrace-keeper")
        (worker,) = children(server, "worker")

        front = expendable(server.process.pid)
        # In thousandths of all memory, to which the kernel adds what each process holds.
        assert front < expendable(worker) < expendable(keeper) < expendable(worker) + 500
