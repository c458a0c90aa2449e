"""Headrace serves the models you logged.

These are the names most users need; importing them does not load the server. All public names
are listed in `docs/reference/python.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace import lazy_modules

if TYPE_CHECKING:
    from headrace.client import AsyncClient, Client
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
    from headrace.runners import Runnable, Runner
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
    "Runnable",
    "Runner",
    "Service",
    "Tensor",
    "TensorMetadata",
    "Unimplemented",
    "__version__",
]


# Imported when first used: the command line starts without numpy, a worker has neither the client's
# libraries nor a use for them, and nobody needs all frameworks.
_LAZY = {
    **dict.fromkeys(
        (
            *("BadModelOutput", "HeadraceError", "InvalidInput", "LoadFailed"),
            *("ModelNotReady", "NotFound", "Overloaded", "Unimplemented"),
        ),
        "headrace.errors:",
    ),
    "Model": "headrace.model:Model",
    **dict.fromkeys(
        ("InferenceRequest", "InferenceResponse", "ModelMetadata", "TensorMetadata"),
        "headrace.protocol.messages:",
    ),
    "Tensor": "headrace.protocol.tensor:Tensor",
    "AsyncClient": "headrace.client:AsyncClient",
    "Client": "headrace.client:Client",
    "Context": "headrace.services:Context",
    "Runnable": "headrace.runners:Runnable",
    "Runner": "headrace.runners:Runner",
    "Service": "headrace.services:Service",
    "Tag": "headrace.store.tag:Tag",
    # `import headrace as bentoml` finds these.
    "exceptions": "headrace.compat.bentoml.exceptions",
    "bentos": "headrace.compat.bentoml.bentos",
    "load": "headrace.bundles:load",
    "metrics": "headrace.compat.bentoml.prometheus_classes",
    **dict.fromkeys(
        ("build", "delete", "export_bento", "get", "import_bento", "list", "pull", "push"),
        "headrace.compat.bentoml.bentos:",
    ),
}


def __getattr__(name: str) -> Any:
    place = f"headrace.{name}" if name in lazy_modules.LAZY_MODULES else _LAZY.get(name)
    if place is None:
        raise AttributeError(f"module 'headrace' has no attribute '{name}'")
    path, colon, attribute = place.partition(":")
    missing = f"'headrace.{name}' needs {path}, which this installation does not have"
    module = lazy_modules.imported(path, missing)
    return getattr(module, attribute or name) if colon else module
