"""The commands of docs/how-to/deploy.md, run as they stand there."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from headrace.cli.deploy_command import TARGETS
from headrace.cli.main import main
from support.custom import write_model
from support.pages import blocks

PAGE = Path(__file__).parents[3] / "docs/how-to/deploy.md"
COMMANDS = [
    line.removeprefix("headrace ")
    for _, text in blocks(PAGE)
    for line in text.splitlines()
    if line.startswith("headrace deploy")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_prints_a_manifest(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path, name="models")
    (tmp_path / "service.py").write_text("import headrace\nsvc = headrace.Service('sums')\n")
    # What follows | and > is the shell's.
    words = shlex.split(command.partition(" | ")[0].partition(" > ")[0])

    assert main(words) == 0, capsys.readouterr().err

    assert capsys.readouterr().out


def test_the_page_has_a_command_for_every_target():
    assert {command.split()[1] for command in COMMANDS} == set(TARGETS)
