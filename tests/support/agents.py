"""MLflow's agents as model folders, written as source files that MLflow logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from support.tracking import ENVIRONMENT

SAVE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlflow
for source, folder in json.loads(sys.argv[1]):
    mlflow.pyfunc.save_model(folder, python_model=source, pip_requirements=["mlflow"])
"""


def save_agents(root: Path, sources: dict[str, str], **keys: Any) -> None:
    """Save each source under its name in `root`, with a settings file that has these keys.

    In a process of its own, whose tracking store is in `root` too: MLflow runs agents to log them.
    """
    work = []
    for name, source in sources.items():
        (root / name).mkdir(parents=True)
        (root / name / "agent.py").write_text(textwrap.dedent(source))
        settings = {"implementation": "mlflow", "parameters": {"uri": "./model"}, **keys}
        (root / name / "model-settings.json").write_text(json.dumps(settings))
        work.append([str(root / name / "agent.py"), str(root / name / "model")])
    subprocess.run([sys.executable, "-c", SAVE, json.dumps(work)], env=tracked(root), check=True)


def tracked(root: Path) -> dict[str, str]:
    """The environment of processes that write their traces below `root`."""
    store = f"sqlite:///{root / 'tracking.db'}"
    return {**os.environ, **ENVIRONMENT, "MLFLOW_TRACKING_URI": store}
