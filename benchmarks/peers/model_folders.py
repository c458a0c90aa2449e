"""The model settings that MLServer and Headrace read alike, and the names of their models."""

from __future__ import annotations

import json

WINE, PIXELS = "wine", "pixels"


def settings(name: str, implementation: str, uri: str) -> str:
    """The text of a model-settings.json."""
    value = {"name": name, "implementation": implementation, "parameters": {"uri": uri}}
    return json.dumps(value, indent=1) + "\n"


SKLEARN = "mlserver_sklearn.SKLearnModel"
SKLEARN_FILES = {
    f"{name}/model-settings.json": settings(name, SKLEARN, "./model.joblib")
    for name in (WINE, PIXELS)
}
SKLEARN_COPIES = {f"{name}/model.joblib": f"{name}.joblib" for name in (WINE, PIXELS)}
MLFLOW_FILES = {
    f"{WINE}/model-settings.json": settings(WINE, "mlserver_mlflow.MLflowRuntime", "./model")
}
MLFLOW_COPIES = {f"{WINE}/model": "mlflow"}
