"""What a client can ask of a server, free of any transport. One value for each question."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.protocol.messages import InferenceRequest


@dataclass(frozen=True)
class Live:
    """Whether the server's process runs; answers a bool."""


@dataclass(frozen=True)
class Ready:
    """Whether every model of the server can answer; answers a bool."""


@dataclass(frozen=True)
class ModelReady:
    """Whether one model can answer; answers a bool."""

    name: str
    version: str | None = None


@dataclass(frozen=True)
class ServerMetadata:
    """Name, version and extensions of the server; answers a dict."""


@dataclass(frozen=True)
class ModelMetadata:
    """Name, versions, platform, inputs and outputs of a model; answers a dict."""

    name: str
    version: str | None = None


@dataclass(frozen=True)
class Infer:
    """One inference; answers an `InferResult`. `binary` is about tensors in both directions."""

    name: str
    request: InferenceRequest
    version: str | None = None
    binary: bool = True


@dataclass(frozen=True)
class Index:
    """The models of the repository; answers a list of dicts."""

    ready: bool = False


@dataclass(frozen=True)
class Load:
    """Load or reload a model; answers None."""

    name: str


@dataclass(frozen=True)
class Unload:
    """Unload a model; answers None."""

    name: str


Operation = (
    Live | Ready | ModelReady | ServerMetadata | ModelMetadata | Infer | Index | Load | Unload
)
