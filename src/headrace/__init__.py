"""Headrace serves the models you logged.

These are the names most users need; importing them does not load the server. All public names
are listed in `docs/reference/python.md`.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from headrace.errors import (
    BadModelOutput,
    HeadraceError,
    InvalidInput,
    LoadFailed,
    ModelNotReady,
    NotFound,
    Overloaded,
    Unimplemented,
)
from headrace.model import Model
from headrace.protocol.messages import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    TensorMetadata,
)
from headrace.protocol.tensor import Tensor

if TYPE_CHECKING:
    from headrace.client import AsyncClient, Client
    from headrace.runners import Runner
    from headrace.services import Context, Service

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "BadModelOutput",
    "Client",
    "Context",
    "HeadraceError",
    "InferenceRequest",
    "InferenceResponse",
    "InvalidInput",
    "LoadFailed",
    "Model",
    "ModelMetadata",
    "ModelNotReady",
    "NotFound",
    "Overloaded",
    "Runner",
    "Service",
    "Tensor",
    "TensorMetadata",
    "Unimplemented",
    "__version__",
]


# Imported when first used: a worker has neither the client's libraries nor a use for them, and
# nobody needs all frameworks.
_LAZY = {
    "AsyncClient": "headrace.client:AsyncClient",
    "Client": "headrace.client:Client",
    "Context": "headrace.services:Context",
    "Runner": "headrace.runners:Runner",
    "Service": "headrace.services:Service",
    "Tag": "headrace.store.tag:Tag",
    # `import headrace as bentoml` finds these.
    "exceptions": "headrace.compat.bentoml.exceptions",
}
_LAZY_MODULES = frozenset(
    (
        "bundles",
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
)


def __getattr__(name: str) -> Any:
    place = f"headrace.{name}" if name in _LAZY_MODULES else _LAZY.get(name)
    if place is None:
        raise AttributeError(f"module 'headrace' has no attribute '{name}'")
    path, _, attribute = place.partition(":")
    missing = f"'headrace.{name}' needs {path}, which this installation does not have"
    module = _imported(path, missing)
    return getattr(module, attribute) if attribute else module


def _imported(path: str, missing: str) -> ModuleType:
    """A module of ours, or an ImportError that says `missing`."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        # What the module itself needs, and where to get it, is for its own message to say.
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise
        raise ImportError(missing) from None
