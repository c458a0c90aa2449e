"""The command itself: its standard files, and what it says when they fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.serving import COMMAND

SHOW = [*COMMAND, "config", "show"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a device that is full")
def test_a_full_output_is_reported_in_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(SHOW, stdout=full, stderr=subprocess.PIPE, cwd=tmp_path)

    assert ended.returncode == 1
    assert ended.stderr == b"headrace: No space left on device\n"


def test_standard_files_that_are_closed_are_opened_before_anything_takes_their_numbers(
    tmp_path: Path,
) -> None:
    script = (
        "import os, sys; from headrace.cli.main import main; main(['config', 'show']);"
        "os._exit(os.open(os.devnull, os.O_RDONLY))"
    )
    command = [sys.executable, "-c", script]
    ended = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command], cwd=tmp_path)

    assert ended.returncode > 2
