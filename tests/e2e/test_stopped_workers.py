"""Workers that were stopped (SIGSTOP): whatever a worker holds up finds it out, and ends it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from support.asking import ask, numbers
from support.custom import write_model
from support.serving import Server, serving, until

pytestmark = pytest.mark.e2e

REPOSITORY = "/v2/repository/models"


def stop_worker(server: Server) -> Path:
    """Stop the only worker; what is returned exists for as long as it does."""
    (worker,) = server.workers()
    folder = Path(f"/proc/{worker}")
    os.kill(worker, signal.SIGSTOP)
    # Its threads run on for a moment.
    until(lambda: all(map(is_stopped, folder.glob("task/*/stat"))), 60, "it is stopped")
    return folder


def is_stopped(stat: Path) -> bool:
    """Whether a thread is stopped. Source: proc(5)."""
    return stat.read_text().rpartition(") ")[2].startswith("T")


def infer(server: Server, name: str) -> int:
    return ask(server.http, "POST", f"/v2/models/{name}/infer", numbers(1)).status


def test_one_request_finds_out_a_stopped_worker_in_which_many_could_run(tmp_path: Path) -> None:
    write_model(tmp_path, infer_timeout=0.5, max_concurrency=1000)
    with serving(tmp_path) as server:
        stopped = stop_worker(server)

        assert infer(server, "m") == 504
        until(lambda: not stopped.exists(), 60, "it is ended")
        until(lambda: infer(server, "m") == 200, 60, "it has been replaced")


def test_a_load_finds_out_a_stopped_worker(tmp_path: Path) -> None:
    write_model(tmp_path)
    with serving(tmp_path, "--load-timeout", 3) as server:
        stopped = stop_worker(server)
        write_model(tmp_path, name="late")

        answer = ask(server.http, "POST", f"{REPOSITORY}/late/load", {})
        assert "did not load within 3 s" in answer.json["error"], answer
        until(lambda: not stopped.exists(), 60, "it is ended")
        until(lambda: infer(server, "m") == 200, 60, "it has been replaced")


def test_an_unload_finds_out_a_stopped_worker(tmp_path: Path) -> None:
    write_model(tmp_path)
    write_model(tmp_path, name="neighbour")
    with serving(tmp_path) as server:
        stopped = stop_worker(server)

        assert ask(server.http, "POST", f"{REPOSITORY}/m/unload", {}).status == 200
        until(lambda: not stopped.exists(), 60, "it is ended")
        until(lambda: infer(server, "neighbour") == 200, 60, "it has been replaced")
