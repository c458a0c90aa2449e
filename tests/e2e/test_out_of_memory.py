"""A container that runs out of memory: the request that fills it is found out, and nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from headrace.executors import control_groups
from support.asking import ask, numbers
from support.custom import write_model
from support.serving import serving, until

pytestmark = pytest.mark.e2e

INFER = "/v2/models/m/infer"
MIB = 1024 * 1024
LIMIT = 600 * MIB


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of this process's own whose processes may hold so much memory together."""
    made = None
    for folder in control_groups.folders("memory"):
        with suppress(OSError):
            made = folder / f"headrace-test-{os.getpid()}"
            made.mkdir()
            limit = "memory.max" if (made / "memory.max").exists() else "memory.limit_in_bytes"
            (made / limit).write_text(str(LIMIT))
            break
    else:
        pytest.skip("no control group can be made here, which takes root")
    yield made
    # The last processes may take a moment to leave it.
    until(lambda: not (made / "cgroup.procs").read_text(), 60, "the group is empty")
    made.rmdir()


def test_a_request_that_takes_all_memory_is_poisoned_and_others_are_answered(
    tmp_path: Path, group: Path
) -> None:
    predict = f"x if x[0] >= 0 else np.ones({2 * LIMIT // 8})\nreturn x * 2"
    with serving(write_model(tmp_path, predict)) as server:
        (group / "cgroup.procs").write_text(str(server.process.pid))
        (before,) = server.workers()
        os.kill(before, signal.SIGKILL)
        until(lambda: server.workers() not in ([], [before]), 60, "a worker in the group")
        filling = ask(server.http, "POST", INFER, numbers(-1))
        fine = ask(server.http, "POST", INFER, numbers(4))

        assert (filling.status, filling.json["code"]) == (500, "poisoned")
        assert fine.json["outputs"][0]["data"] == [8.0]
        assert "was killed by the kernel because memory ran out" in server.log()
