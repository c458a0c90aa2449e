"""MLflow models in the model store."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, Unpack

from headrace.errors import InvalidInput, InvalidModel, shorten
from headrace.frameworks import mlflow_artifacts
from headrace.frameworks.framework import Framework, Kept
from headrace.models import StoredModel
from headrace.runtimes import artefact
from headrace.runtimes.mlflow.mlflow_folder import MLflowFolder
from headrace.settings import ModelSettings

FRAMEWORK = Framework("mlflow", "mlflow", ("mlflow", "mlflow-skinny"), always=("predict",))
MLFLOW_MODEL_FOLDER = "mlflow_model"


def import_model(name: str, model_uri: str | os.PathLike[str], **kept: Unpack[Kept]) -> StoredModel:
    """Copy an MLflow model, whole, to a new version of `name`.

    `model_uri` is a folder, or a URI that MLflow's client resolves: `file://`, `runs:/`, `models:/`
    with a version, stage, alias or id, `mlflow-artifacts:/`, `s3://` and other object stores.
    `signatures` may name methods of the model inside besides `predict`, such as `predict_proba`.
    See `headrace.frameworks.framework.Kept` for what else is kept.

    Raises:
        LoadFailed: the URI cannot be fetched; the message is MLflow's reason.
        InvalidModel: it is not an MLflow model, or Python cannot load it.
        InvalidInput: a signature names a method that the model does not have.
        MissingDependency: MLflow's client is needed and not installed.
    """
    with mlflow_artifacts.fetched(model_uri) as fetched:
        folder = _read(fetched.path, str(model_uri))
        # The model is loaded only where its methods have to be known.
        others = set(kept.get("signatures") or ()) - {"predict"}
        model = _native(folder) if others else None
        with FRAMEWORK.saving(name, model, kept, _about(folder)) as stored:
            fetched.place(stored.path_of(MLFLOW_MODEL_FOLDER))
    return stored


def load_model(tag: Any, native: bool = False) -> Any:
    """The model of a tag such as `wine:latest`, or of a stored model, as `mlflow.pyfunc` loads it.

    If `native`, it is the model itself, such as an estimator of scikit-learn.

    Raises:
        NotFound: there is no such model, or another module saved it.
        InvalidModel: its files are not as they were stored.
        MissingDependency: MLflow or the model's framework is not installed.
    """
    path = FRAMEWORK.checked(tag).path_of(MLFLOW_MODEL_FOLDER)
    if native:
        return _native(_read(path, path))
    return FRAMEWORK.require("mlflow.pyfunc").load_model(path)


def get(tag: Any) -> StoredModel:
    """The stored model of a tag. Its MLflow folder is at `path_of(MLFLOW_MODEL_FOLDER)`.

    Raises:
        NotFound: no such model is stored, or another module saved it.
    """
    return FRAMEWORK.get(tag)


def get_mlflow_model(tag: Any) -> Any:
    """The `mlflow.models.Model` of a tag: what its `MLmodel` file says.

    Raises:
        NotFound: there is no such model, or another module saved it.
    """
    path = get(tag).path_of(MLFLOW_MODEL_FOLDER)
    return FRAMEWORK.require("mlflow.models").Model.load(path)


def settings_of(stored: StoredModel) -> dict[str, Any]:
    """The fields of `ModelSettings` by which a worker serves it."""
    return FRAMEWORK.settings(stored, FRAMEWORK.file(stored, MLFLOW_MODEL_FOLDER))


def _read(folder: str, uri: str) -> MLflowFolder:
    if not Path(folder, "MLmodel").is_file():
        raise InvalidModel(
            f"'{shorten(uri, 200)}' is not an MLflow model: no MLmodel file is there"
        )
    found = MLflowFolder(ModelSettings(uri, FRAMEWORK.runtime, uri=folder))
    if not found.pyfunc:
        flavors = ", ".join(map(str, found.flavors)) or "none"
        raise InvalidModel(
            f"MLflow model '{shorten(uri, 200)}' has no python_function flavor, so Python cannot "
            f"serve it; its flavors: {shorten(flavors, 200)}"
        )
    return found


def _about(folder: MLflowFolder) -> dict[str, Any]:
    """What `MLmodel` says that people look for in a list of models."""
    raw = folder.raw
    requirements = Path(folder.path, "requirements.txt")
    lines = (
        requirements.read_text("utf-8", "replace").splitlines() if requirements.is_file() else []
    )
    signature = folder.signature() or {}
    example = raw.get("saved_input_example_info")
    found = {
        "flavors": sorted(map(str, folder.flavors)),
        "loader_module": folder.pyfunc.get("loader_module"),
        "signature": {key: value for key, value in signature.items() if value is not None},
        "input_example": example.get("artifact_path") if isinstance(example, dict) else None,
        "requirements": [line for line in lines if line.strip()],
        **{
            key: str(raw.get(key) or "")
            for key in ("mlflow_version", "model_id", "model_uuid", "run_id")
        },
    }
    return {key: value for key, value in found.items() if value}


def _native(folder: MLflowFolder) -> Any:
    """The model inside, loaded by MLflow's module for its flavor."""
    FRAMEWORK.require("mlflow")
    loader = str(folder.pyfunc.get("loader_module"))
    if loader in ("mlflow.pyfunc.model", "mlflow.pyfunc.loaders.code_model"):
        pyfunc = FRAMEWORK.require("mlflow.pyfunc")
        return pyfunc.load_model(folder.path).unwrap_python_model()
    module = importlib.import_module(loader)
    if not hasattr(module, "load_model"):
        raise InvalidInput(
            f"MLflow loads this model by '{shorten(loader)}', which has no native form of it"
        )
    return artefact.read("the MLflow model", lambda: module.load_model(folder.path))
