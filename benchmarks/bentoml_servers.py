"""The same model behind BentoML 1.4: a class as its pages show, and a legacy service with a runner.

They run in an environment of their own, which is made once in the user's cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import environments

# The newest of 1.4.
VERSION = "1.4.40"
# Nothing is reported to anybody.
QUIET = {"BENTOML_DO_NOT_TRACK": "True"}
CONFIGURATION = (
    "as its documentation advises for processors, with a process of a class for each of them, and "
    "without a line for each request"
)
TARGETS = {"bentoml": "new_style:IrisClassifier", "bentoml-legacy": "legacy:svc"}

SAVE = """
import sys
import bentoml
import joblib

batched = {"predict": {"batchable": True, "batch_dim": 0}}
bentoml.sklearn.save_model("iris", joblib.load(sys.argv[1]), signatures=batched)
"""
# A service in the new style says this in its code.
LEGACY_CONFIGURATION = "legacy.yaml"
WITHOUT_ACCESS_LOG = """
version: 1
api_server:
  logging:
    access:
      enabled: false
runners:
  logging:
    access:
      enabled: false
"""
FILES = {
    LEGACY_CONFIGURATION: WITHOUT_ACCESS_LOG,
    "save.py": SAVE,
    "new_style.py": """
import bentoml
import numpy as np


@bentoml.service(workers="cpu_count", logging={"access": {"enabled": False}})
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


def requirements() -> list[str]:
    """What its environment has."""
    return [
        f"bentoml=={VERSION}",
        *environments.model_requirements(),
        # uvicorn uses them wherever they are installed, as they are in ours.
        *environments.pinned("uvloop", "httptools"),
    ]


def variables(folder: Path, name: str = "bentoml") -> dict[str, str]:
    """The environment variables of a server, with a store of its own in `folder`."""
    found = {**QUIET, "BENTOML_HOME": str(folder / "home")}
    if name == "bentoml-legacy":
        found["BENTOML_CONFIG"] = str(folder / LEGACY_CONFIGURATION)
    return found


def fill(python: Path, folder: Path, model: Any) -> None:
    """Write the services to `folder` and save the model to its store.

    Raises:
        NotStarted: BentoML could not save the model.
    """
    import joblib

    folder.mkdir(exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    joblib.dump(model, folder / "model.joblib")
    environments.run([str(python), "save.py", "model.joblib"], folder, variables(folder))


def serve(python: Path, folder: Path, name: str, port: int) -> list[str]:
    """How `bentoml serve` is started."""
    where = ["--host", "127.0.0.1", "--port", str(port), "--working-dir", str(folder)]
    return [str(python), "-m", "bentoml", "serve", TARGETS[name], *where]
