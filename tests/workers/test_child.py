"""Programs that build environments: however they end, nothing of them is left running."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.environments import child
from support.serving import until


def runs(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def shell(folder: Path, line: str) -> child.Program:
    return child.Program(["/bin/sh", "-c", line], {"PATH": "/usr/bin:/bin"}, folder)


def test_what_a_program_leaves_running_ends_with_it(tmp_path: Path) -> None:
    program = shell(tmp_path, "sleep 600 >/dev/null 2>&1 & echo $!")
    outcome = asyncio.run(child.run(program, 30))

    assert outcome.code == 0
    until(lambda: not runs(int(outcome.output)), 60, "the sleeper has ended")


def test_a_program_whose_time_is_up_is_ended_with_all_it_started(tmp_path: Path) -> None:
    started: list[str] = []
    program = shell(tmp_path, "sleep 600 & echo $!; wait")
    with pytest.raises(child.Overdue):
        asyncio.run(asyncio.wait_for(child.run(program, 0.5, started.append), 30))

    until(lambda: not runs(int(started[0])), 60, "the sleeper has ended")
