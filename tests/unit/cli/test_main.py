"""The command itself: its standard files, and what it says when they fail."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from headrace.cli import main
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


def test_a_command_is_added_by_the_module_that_its_name_imports() -> None:
    for name in main.COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main.main([name, "--help"])
        assert ended.value.code == 0, name


def test_no_command_is_left_out_of_the_help() -> None:
    modules = {path.stem for path in Path(main.__file__).parent.glob("*.py")}
    adding = {
        name for name in modules if hasattr(import_module(f"headrace.cli.{name}"), "add_command")
    }

    assert set(main.COMMANDS.values()) == adding
