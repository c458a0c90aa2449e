"""Headrace serves the models you logged.

These are the names most users need; importing them does not load the server. All public names
are listed in `docs/reference/python.md`.
"""

from __future__ import annotations

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

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "BadModelOutput",
    "Client",
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
    "Tensor",
    "TensorMetadata",
    "Unimplemented",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # A worker has neither the client's libraries nor a use for them.
    if name in ("AsyncClient", "Client"):
        from headrace import client

        return getattr(client, name)
    raise AttributeError(f"module 'headrace' has no attribute '{name}'")
