"""docs/how-to/import-mlflow-model.md: its code runs as it stands, in one go."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.pages import blocks

PAGE = Path(__file__).parents[2] / "docs/how-to/import-mlflow-model.md"


def test_the_code_of_the_page_runs_in_order(tmp_path):
    program = "\n".join(text for language, text in blocks(PAGE) if language == "python")
    program += """
tags = [str(each.tag.name) for each in headrace.models.list()]
print(tags.count("my_sklearn_model"), tags.count("wine"), model.predict(data[:1]).tolist())
"""
    environ = {
        **os.environ,
        "HEADRACE_HOME": str(tmp_path / "home"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1 5 [0]"
