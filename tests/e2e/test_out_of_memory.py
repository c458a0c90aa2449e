"""A container that runs out of memory: the request that fills it is found out, and nothing else."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from support.asking import ask, numbers
from support.custom import write_model
from support.memory_group import memory_group
from support.serving import serving, until

pytestmark = pytest.mark.e2e

INFER = "/v2/models/m/infer"
MIB = 1024 * 1024
LIMIT = 600 * MIB


def test_a_request_that_takes_all_memory_is_poisoned_and_others_are_answered(
    tmp_path: Path,
) -> None:
    predict = f"x if x[0] >= 0 else np.ones({2 * LIMIT // 8})\nreturn x * 2"
    with memory_group(LIMIT) as group, serving(write_model(tmp_path, predict)) as server:
        (group / "cgroup.procs").write_text(str(server.process.pid))
        (before,) = server.workers()
        os.kill(before, signal.SIGKILL)
        until(lambda: server.workers() not in ([], [before]), 60, "a worker in the group")
        filling = ask(server.http, "POST", INFER, numbers(-1))
        fine = ask(server.http, "POST", INFER, numbers(4))

        assert (filling.status, filling.json["code"]) == (500, "poisoned")
        assert fine.json["outputs"][0]["data"] == [8.0]
        assert "was killed by the kernel because memory ran out" in server.log()
