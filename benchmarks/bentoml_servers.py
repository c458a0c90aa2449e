"""The same model behind BentoML 1.4: a class as its pages show, and a legacy service with a runner.

They run in an environment of their own, which is made once in the user's cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import servers

# The newest of 1.4.
VERSION = "1.4.40"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
ENVIRONMENTS = CACHE / "headrace-benchmarks"
BUILD_TIMEOUT = 600
# Nothing is reported to anybody.
QUIET = {"BENTOML_DO_NOT_TRACK": "True"}
TARGETS = {"bentoml": "new_style:IrisClassifier", "bentoml-legacy": "legacy:svc"}

SAVE = """
import sys
import bentoml
import joblib

batched = {"predict": {"batchable": True, "batch_dim": 0}}
bentoml.sklearn.save_model("iris", joblib.load(sys.argv[1]), signatures=batched)
"""
FILES = {
    "save.py": SAVE,
    "new_style.py": """
import bentoml
import numpy as np


@bentoml.service
class IrisClassifier:
    stored = bentoml.models.BentoModel("iris:latest")

    def __init__(self) -> None:
        self.model = bentoml.sklearn.load_model(self.stored)

    @bentoml.api
    def classify(self, rows: np.ndarray) -> np.ndarray:
        return self.model.predict(rows)

    @bentoml.api(batchable=True)
    def classify_batched(self, rows: np.ndarray) -> np.ndarray:
        return self.model.predict(rows)
""",
    "legacy.py": """
import bentoml
from bentoml.io import NumpyNdarray
from bentoml.legacy import Service

iris = bentoml.sklearn.get("iris:latest").to_runner()
svc = Service("iris_classifier", runners=[iris])
rows = NumpyNdarray(dtype="float64", shape=[-1, 4], enforce_dtype=True, enforce_shape=True)


@svc.api(input=rows, output=NumpyNdarray())
async def classify(x):
    return await iris.predict.async_run(x)
""",
}


class BentoML:
    """BentoML in its environment, with a model in a store of its own in `folder`.

    Raises:
        NotStarted: uv is missing, or the environment could not be made.
    """

    def __init__(self, folder: Path, model: Any) -> None:
        import joblib

        self._python = _environment()
        self._folder = folder
        folder.mkdir()
        self.variables = {**QUIET, "BENTOML_HOME": str(folder / "home")}
        for name, text in FILES.items():
            (folder / name).write_text(text)
        joblib.dump(model, folder / "model.joblib")
        _run([str(self._python), "save.py", "model.joblib"], folder, self.variables)

    def command(self, name: str, port: int) -> list[str]:
        """How `bentoml serve` is started with everything else left as it is."""
        where = ["--host", "127.0.0.1", "--port", str(port), "--working-dir", str(self._folder)]
        return [str(self._python), "-m", "bentoml", "serve", TARGETS[name], *where]


def _environment() -> Path:
    """The interpreter of an environment with BentoML and our versions of what the model needs."""
    folder = ENVIRONMENTS / f"bentoml-{VERSION}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    own = Path(sys.executable).with_name("uv")
    uv = str(own) if own.exists() else shutil.which("uv")
    if uv is None:
        raise servers.NotStarted("uv, which makes BentoML's environment, is not installed")
    same = [f"{name}=={version(name)}" for name in ("scikit-learn", "numpy", "joblib")]
    print(f"making an environment with BentoML {VERSION} in {folder}", flush=True)
    _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    _run([uv, "pip", "install", "--quiet", "--python", str(python), f"bentoml=={VERSION}", *same])
    (folder / "complete").touch()
    return python


def _run(
    command: list[str], folder: Path | None = None, variables: dict[str, str] | None = None
) -> None:
    env = {**os.environ, **(variables or {})}
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=BUILD_TIMEOUT
    )
    if done.returncode:
        raise servers.NotStarted(f"{' '.join(command)} failed:\n{done.stderr[-1500:]}")
