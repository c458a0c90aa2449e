"""The model settings of MLServer and of Headrace, which differ in the names of their runtimes."""

from __future__ import annotations

import json

WINE, PIXELS = "wine", "pixels"


def settings(name: str, implementation: str, uri: str) -> str:
    """The text of a model-settings.json."""
    value = {"name": name, "implementation": implementation, "parameters": {"uri": uri}}
    return json.dumps(value, indent=1) + "\n"


def sklearn(implementation: str) -> dict[str, str]:
    """The settings of both models, by file."""
    return {
        f"{name}/model-settings.json": settings(name, implementation, "./model.joblib")
        for name in (WINE, PIXELS)
    }


def mlflow(implementation: str) -> dict[str, str]:
    """The settings of the MLflow model, by file."""
    return {f"{WINE}/model-settings.json": settings(WINE, implementation, "./model")}


SKLEARN_COPIES = {f"{name}/model.joblib": f"{name}.joblib" for name in (WINE, PIXELS)}
MLFLOW_COPIES = {f"{WINE}/model": "mlflow"}
