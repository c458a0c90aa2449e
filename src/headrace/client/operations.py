"""What a client can ask of a server, independent of the transport."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.protocol.messages import InferenceRequest


@dataclass(frozen=True)
class Live:
    """Whether the server's process is running; its value is a bool."""


@dataclass(frozen=True)
class Ready:
    """Whether every model of the server can answer; its value is a bool."""


@dataclass(frozen=True)
class ModelReady:
    """Whether one model can answer; its value is a bool."""

    name: str
    version: str | None = None


@dataclass(frozen=True)
class ServerMetadata:
    """Name, version and extensions of the server, as a dict."""


@dataclass(frozen=True)
class ModelMetadata:
    """Name, versions, platform, inputs and outputs of a model, as a dict."""

    name: str
    version: str | None = None


@dataclass(frozen=True)
class Infer:
    """One inference; its value is an `InferResult`. `binary` applies to tensors both ways."""

    name: str
    request: InferenceRequest
    version: str | None = None
    binary: bool = True


@dataclass(frozen=True)
class Index:
    """The models of the repository, as a list of dicts."""

    ready: bool = False


@dataclass(frozen=True)
class Load:
    """Load or reload a model; its value is None."""

    name: str


@dataclass(frozen=True)
class Unload:
    """Unload a model; its value is None."""

    name: str


Operation = (
    Live | Ready | ModelReady | ServerMetadata | ModelMetadata | Infer | Index | Load | Unload
)
