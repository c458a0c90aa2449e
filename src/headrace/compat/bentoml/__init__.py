"""BentoML's API for services, as of 1.0, and VtsServing's; found as `bentoml` and `vtsserving`.

What a name stands for is imported when it is first used, so that a service that needs scikit-learn
alone imports nothing else.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

__version__ = "1.0.25"
BENTOML_VERSION = VTSSERVING_VERSION = __version__

# Modules of ours that are found under `bentoml.` by the same names.
SAME_MODULES = (
    "catboost",
    "io",
    "keras",
    "lightgbm",
    "mlflow",
    "models",
    "onnx",
    "picklable_model",
    "pytorch",
    "sklearn",
    "tensorflow",
    "torchscript",
    "transformers",
    "xgboost",
)
MODULES = {
    **{name: f"headrace.{name}" for name in SAME_MODULES},
    "bentos": "headrace.bundles",
    "exceptions": "headrace.compat.bentoml.exceptions",
}
NAMES = {
    "Context": "headrace.services:Context",
    "Model": "headrace.models:StoredModel",
    "Runner": "headrace.runners:Runner",
    "Service": "headrace.services:Service",
    "Tag": "headrace.store.tag:Tag",
    "build": "headrace.bundles:build",
    "delete": "headrace.bundles:delete",
    "export_bento": "headrace.bundles:export_bundle",
    "get": "headrace.bundles:get",
    "import_bento": "headrace.bundles:import_bundle",
    "list": "headrace.bundles:list",
    "pull": "headrace.bundles:pull",
    "push": "headrace.bundles:push",
}


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return module_of(name)
    if name not in NAMES:
        raise AttributeError(
            f"Headrace's 'bentoml' has no '{name}'; docs/how-to/from-bentoml.md lists what it has"
        )
    path, _, attribute = NAMES[name].partition(":")
    return getattr(_imported(path, name), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *MODULES, *NAMES])


def module_of(name: str) -> ModuleType:
    """The module of ours that `bentoml.{name}` is.

    Raises:
        ImportError: it is not part of this installation.
    """
    return _imported(MODULES[name], name)


def _imported(path: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        # What the module itself needs, and where to get it, is for its own message to say.
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise
        raise ImportError(
            f"'bentoml.{name}' is {path} here, which this installation of Headrace does not have"
        ) from None
