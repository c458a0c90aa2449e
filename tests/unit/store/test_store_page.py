"""docs/how-to/model-store.md does what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from headrace import models
from headrace.cli.main import main
from support.pages import blocks

PAGE = Path(__file__).parents[3] / "docs/how-to/model-store.md"
PYTHON = [text for language, text in blocks(PAGE) if language == "python"]
SHELL = re.findall(r"^headrace models (.*?)(?: +#.*)?$", PAGE.read_text(), re.MULTILINE)


def test_the_code_and_the_commands_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    namespace: dict[str, object] = {}
    exec(PYTHON[0], namespace)
    version = str(models.get("iris").tag.version)
    for block in PYTHON[1:]:
        exec(block.replace("3n3i", version), namespace)
    out = capsys.readouterr().out
    assert "{'team': 'search'} {'accuracy': 0.97" in out
    assert "[2]" in out
    assert "key,value" in out
    model = models.get("iris:v1")
    model.export("iris.bentomodel")
    model.export(tmp_path / "bentoml/models/iris/v1", "folder")

    for line in SHELL:
        line = line.replace("s3://bucket", f"file://{tmp_path}/team").replace("~", str(tmp_path))
        assert main(["models", *shlex.split(line)]) == 0, line
    assert len(SHELL) >= 10
