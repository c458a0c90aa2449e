"""What is downloaded for models, and when it is removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.sources import artifacts


def test_only_downloads_of_servers_that_are_gone_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    for name in (f"{os.getpid()}-ours", f"{gone.pid}-theirs", "of-somebody"):
        (tmp_path / "downloads" / name).mkdir(parents=True)

    artifacts.sweep()

    left = {folder.name for folder in (tmp_path / "downloads").iterdir()}
    assert left == {f"{os.getpid()}-ours", "of-somebody"}
