"""Requests with so much text that another process parses them; see `headrace.decoding`."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headrace.adapters.adapter import Adapter, Headers, HttpRequest, ModelView, Route
from headrace.protocol import large_buffers
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.mlflow.signature import Signature

# Bytes of text from which on a parser can hold up everybody else for tens of milliseconds. Arrays
# of numbers that are read in slices are no text.
MUCH_TEXT = 1024 * 1024


@dataclass
class SentRequest:
    """What decoding needs of a request: the `HttpRequest` of the other process."""

    headers: Headers
    body: bytes
    scope: dict[str, Any] = field(default_factory=dict)
    credentials: tuple[bytes | str, ...] = ()
    hides: None = None


class SeenModel:
    """What decoding needs of a model: the `ModelView` of the other process."""

    cloud_events = None

    def __init__(self, model: ModelView) -> None:
        self.name = model.name
        self.version = model.version
        self.model_metadata = model.model_metadata
        self.is_ready = model.is_ready
        self.signature = self._seen(model.signature)
        self.scoring_signature = self._seen(model.scoring_signature)
        self.passed_over: list[tuple[str, Sequence[str]]] = []

    def pass_over(self, kind: str, words: Sequence[str]) -> None:
        """Remember words, for the model itself to count."""
        self.passed_over.append((kind, words))

    def _seen(self, signature: Signature | None) -> Signature | None:
        if signature is None or signature.pass_over is None:
            return signature
        signature = copy(signature)
        signature.pass_over = self.pass_over
        return signature


class Decoded(NamedTuple):
    """What `Adapter.decode` returns, whether the answer is streamed, and words passed over."""

    request: InferenceRequest
    context: Any
    streams: bool
    passed_over: list[tuple[str, Sequence[str]]]


def has_much_text(adapter: Adapter, request: HttpRequest) -> bool:
    """Whether decoding a request would hold up this process."""
    return len(request.body) >= MUCH_TEXT and adapter.text_size(request) >= MUCH_TEXT


def select(
    adapter: Adapter, name: str | None, version: str | None, request: SentRequest
) -> tuple[str | None, str | None]:
    """The model that a request is for. In the other process."""
    return adapter.select(name, version, request)


def wants_stream(adapter: Adapter, route: Route, body: bytes) -> bool:
    """Whether the answer is to be streamed. In the other process."""
    return adapter.wants_stream(route, body)


def decode(adapter: Adapter, route: Route, request: SentRequest, model: SeenModel) -> Decoded:
    """Decode a request, and let go of its body. In the other process.

    Raises:
        HeadraceError: the request is refused.
    """
    decoded, context = adapter.decode(request, model)
    streams = adapter.wants_stream(route, request.body)
    # There may not be memory for both.
    request.body = b""
    # What is there already need not be sent.
    large_buffers.move(decoded.inputs)
    return Decoded(decoded, context, streams, model.passed_over)
