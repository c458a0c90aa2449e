"""The catalogue of runtimes: one row for each, from which every other list of them is derived.

Importing it loads no runtime and no framework. `tests/unit/runtimes/test_catalog.py` says what to
change in `pyproject.toml` and the pages when a row changes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Callable

from headrace.settings import ModelSettings


def _no_folders(settings: ModelSettings) -> list[str]:
    return []


def _settings_folder(settings: ModelSettings) -> list[str]:
    return [settings.folder]


def _logged_code(settings: ModelSettings) -> list[str]:
    return [os.path.join(settings.uri or settings.folder, "code")]


@dataclass(frozen=True)
class RuntimeEntry:
    """What is known about a runtime before it is imported.

    `name` is its `implementation` in a settings file, and `mlserver_aliases` are the names that
    users of MLServer write there instead. There, `mlserver_content_typed` answers have a content
    type of their own besides those of their outputs. `class_path` is `module:Class`. `extra` is the
    extra of this package that installs its `frameworks`, the top-level modules that it imports to
    load a model.

    `mlflow_readers` has an entry for each of MLflow's loader modules whose models are loaded
    without MLflow: the function that does it, as `module:function`. It takes the folder and its
    `python_function` flavor, and returns a `Native` of `headrace.runtimes.mlflow.native_flavors`,
    or None if MLflow has to load the model after all.

    `early_imports` are those of them that a worker may import before it knows the model, because
    what they do then does not depend on it.

    `code_in` is the function of `headrace.runtimes.safe_formats` that says why opening a model may
    run code, as `module:function`.

    `requirements` are the packages that a worker of such models needs besides numpy and the
    models' own requirements. `module_folders` gives the folders whose modules belong to a model.
    """

    name: str
    class_path: str
    extra: str
    frameworks: tuple[str, ...]
    code_in: str
    mlserver_aliases: tuple[str, ...] = ()
    mlserver_content_typed: bool = False
    early_imports: tuple[str, ...] = ()
    mlflow_readers: dict[str, str] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    module_folders: Callable[[ModelSettings], list[str]] = _no_folders

    @property
    def names(self) -> tuple[str, ...]:
        """Every `implementation` that selects this runtime."""
        return (self.name, *self.mlserver_aliases)

    @property
    def install(self) -> str:
        """The command that installs its frameworks."""
        return f"pip install 'headrace[{self.extra}]'"


# MLServer's documentation uses two names: that of the package, and that of the module in it.
RUNTIMES: tuple[RuntimeEntry, ...] = (
    RuntimeEntry(
        name="sklearn",
        class_path="headrace.runtimes.tables.sklearn_runtime:SKLearnRuntime",
        extra="sklearn",
        frameworks=("sklearn",),
        code_in="headrace.runtimes.safe_formats:sklearn",
        early_imports=("sklearn",),
        mlserver_aliases=(
            "mlserver_sklearn.SKLearnModel",
            "mlserver_sklearn.sklearn.SKLearnModel",
        ),
        mlflow_readers={"mlflow.sklearn": "headrace.runtimes.mlflow.native_flavors:read_sklearn"},
    ),
    RuntimeEntry(
        name="xgboost",
        class_path="headrace.runtimes.tables.xgboost_runtime:XGBoostRuntime",
        extra="xgboost",
        frameworks=("xgboost",),
        code_in="headrace.runtimes.safe_formats:never",
        early_imports=("xgboost",),
        mlserver_aliases=(
            "mlserver_xgboost.XGBoostModel",
            "mlserver_xgboost.xgboost.XGBoostModel",
        ),
        mlflow_readers={"mlflow.xgboost": "headrace.runtimes.mlflow.native_flavors:read_xgboost"},
    ),
    RuntimeEntry(
        name="lightgbm",
        class_path="headrace.runtimes.tables.lightgbm_runtime:LightGBMRuntime",
        extra="lightgbm",
        frameworks=("lightgbm",),
        code_in="headrace.runtimes.safe_formats:lightgbm",
        early_imports=("lightgbm",),
        mlserver_aliases=(
            "mlserver_lightgbm.LightGBMModel",
            "mlserver_lightgbm.lightgbm.LightGBMModel",
        ),
        mlflow_readers={"mlflow.lightgbm": "headrace.runtimes.mlflow.native_flavors:read_lightgbm"},
    ),
    RuntimeEntry(
        name="catboost",
        class_path="headrace.runtimes.tables.catboost_runtime:CatBoostRuntime",
        extra="catboost",
        frameworks=("catboost",),
        code_in="headrace.runtimes.safe_formats:never",
        early_imports=("catboost",),
        mlserver_aliases=(
            "mlserver_catboost.CatboostModel",
            "mlserver_catboost.catboost.CatboostModel",
        ),
        mlflow_readers={"mlflow.catboost": "headrace.runtimes.mlflow.native_flavors:read_catboost"},
    ),
    RuntimeEntry(
        name="onnx",
        class_path="headrace.runtimes.tensors.onnx_runtime:OnnxRuntime",
        extra="onnx",
        frameworks=("onnxruntime",),
        code_in="headrace.runtimes.safe_formats:onnx",
        early_imports=("onnxruntime",),
        mlserver_aliases=("mlserver_onnx.OnnxModel",),
        mlflow_readers={"mlflow.onnx": "headrace.runtimes.mlflow.native_flavors:read_onnx"},
    ),
    RuntimeEntry(
        name="mlflow",
        class_path="headrace.runtimes.mlflow.mlflow_runtime:MLflowRuntime",
        extra="mlflow",
        frameworks=("mlflow",),
        code_in="headrace.runtimes.safe_formats:mlflow",
        mlserver_aliases=("mlserver_mlflow.MLflowRuntime", "mlserver_mlflow.runtime.MLflowRuntime"),
        mlserver_content_typed=True,
        # Reads the `MLmodel` file, even where MLflow itself is not needed.
        requirements=("pyyaml",),
        module_folders=_logged_code,
    ),
    RuntimeEntry(
        name="pytorch",
        class_path="headrace.runtimes.tensors.pytorch_runtime:PyTorchRuntime",
        extra="torch",
        frameworks=("torch",),
        code_in="headrace.runtimes.safe_formats:pytorch",
        early_imports=("torch",),
        # The class of a pickled module, or of one whose weights are loaded, is in that folder.
        module_folders=_settings_folder,
    ),
    RuntimeEntry(
        name="keras",
        class_path="headrace.runtimes.tensors.keras_runtime:KerasRuntime",
        extra="keras",
        frameworks=("keras",),
        code_in="headrace.runtimes.safe_formats:keras",
    ),
    RuntimeEntry(
        name="tensorflow",
        class_path="headrace.runtimes.tensors.tensorflow_runtime:TensorFlowRuntime",
        extra="tensorflow",
        frameworks=("tensorflow",),
        code_in="headrace.runtimes.safe_formats:tensorflow",
    ),
    RuntimeEntry(
        name="huggingface",
        class_path="headrace.runtimes.huggingface.pipelines:HuggingFaceRuntime",
        extra="huggingface",
        frameworks=("torch", "transformers"),
        code_in="headrace.runtimes.safe_formats:huggingface",
        mlserver_aliases=(
            "mlserver_huggingface.HuggingFaceRuntime",
            "mlserver_huggingface.runtime.HuggingFaceRuntime",
        ),
        mlserver_content_typed=True,
    ),
    RuntimeEntry(
        name="pickle",
        class_path="headrace.runtimes.pickle_runtime:PickleRuntime",
        extra="pickle",
        frameworks=("cloudpickle",),
        code_in="headrace.runtimes.safe_formats:pickle",
        # The class of a pickled object may be in that folder.
        module_folders=_settings_folder,
    ),
    RuntimeEntry(
        name="spark",
        class_path="headrace.runtimes.tables.spark_runtime:SparkRuntime",
        extra="spark",
        frameworks=("pyspark",),
        code_in="headrace.runtimes.safe_formats:spark",
        mlserver_aliases=("mlserver_mllib.MLlibModel", "mlserver_mllib.mllib.MLlibModel"),
    ),
)


# Packages of MLServer's that have no counterpart here.
UNSUPPORTED = ("mlserver_alibi_detect", "mlserver_alibi_explain")


def find(implementation: str) -> RuntimeEntry | None:
    """The runtime that an `implementation` names; None if it names a user's class."""
    return next((entry for entry in RUNTIMES if implementation in entry.names), None)


def entry_of(implementation: str) -> RuntimeEntry | None:
    """As `find`, also by the path of its class, which folders without a settings file get."""
    found = find(implementation)
    return found or next((each for each in RUNTIMES if each.class_path == implementation), None)


def instead_of(implementation: str) -> str:
    """A hint for a name that works in MLServer but not here; empty for any other name."""
    name = implementation.replace("-", "_")
    entry = find(name)
    if entry is not None:
        return f"; write '{name}' or '{entry.name}'"
    if name.startswith(UNSUPPORTED):
        return (
            "; MLServer's runtimes for Alibi are not supported: serve the model by its own "
            "runtime, and call the detector or explainer in a custom runtime, a class of yours "
            "that extends mlserver.MLModel"
        )
    return ""


def find_by_alias(implementation: str) -> RuntimeEntry | None:
    """The runtime that users of MLServer name so; None for any other name, its own included."""
    entry = find(implementation)
    return entry if entry is not None and implementation != entry.name else None


def named(name: str) -> RuntimeEntry:
    """The runtime of this `name`.

    Raises:
        KeyError: no such runtime exists.
    """
    for entry in RUNTIMES:
        if entry.name == name:
            return entry
    raise KeyError(name)


def mlflow_reader(loader: str) -> str | None:
    """The function that reads the models of an MLflow loader module, as `module:function`.

    None if only MLflow can read them.
    """
    entry = mlflow_entry(loader)
    return None if entry is None else entry.mlflow_readers[loader]


def mlflow_entry(loader: str) -> RuntimeEntry | None:
    """The runtime whose framework the models of an MLflow loader module need; None as above."""
    return next((entry for entry in RUNTIMES if loader in entry.mlflow_readers), None)


MLFLOW = named("mlflow")
