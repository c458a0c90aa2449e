"""Requests with so much text that another process parses them; see `headrace.decoding`."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace.adapters.adapter import Adapter, Headers, HttpRequest, ModelView, Route
from headrace.protocol import large_buffers
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.mlflow.signature import Signature

if TYPE_CHECKING:
    from headrace.http.http_call import HttpCall

# Bytes of text from which on a parser can block other requests for tens of milliseconds. Arrays of
# numbers are read in slices and do not count as text.
MUCH_TEXT = 1024 * 1024


@dataclass
class SentRequest:
    """What decoding needs of a request: the `HttpRequest` of the other process.

    The ASGI scope stays here. A protocol that needs more of it has no text: see `text_size`.
    """

    headers: Headers
    body: bytes
    credentials: tuple[bytes | str, ...]
    scope: dict[str, Any] = field(default_factory=dict)
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
    """What `Adapter.decode` returns, and whether the answer is streamed.

    `passed_over` is what the model is yet to be told of, where it was a `SeenModel`.
    """

    request: InferenceRequest
    context: Any
    streams: bool
    passed_over: list[tuple[str, Sequence[str]]]


def has_much_text(adapter: Adapter, request: HttpRequest) -> bool:
    """Whether decoding a request would hold up this process."""
    return len(request.body) >= MUCH_TEXT and adapter.text_size(request) >= MUCH_TEXT


def select(
    adapter: Adapter, name: str | None, version: str | None, request: HttpRequest
) -> tuple[str | None, str | None]:
    """The model that a request is for."""
    return adapter.select(name, version, request)


def wants_stream(adapter: Adapter, route: Route, body: bytes) -> bool:
    """Whether the answer is to be streamed."""
    return adapter.wants_stream(route, body)


def decode(
    adapter: Adapter, route: Route, request: HttpCall | SentRequest, model: ModelView
) -> Decoded:
    """Decode a request, and let go of its body.

    Raises:
        HeadraceError: the request is refused.
    """
    decoded, context = adapter.decode(request, model)
    streams = adapter.wants_stream(route, request.body)
    # There may not be memory for both.
    request.body = b""
    # What is there already need not be sent.
    large_buffers.move(decoded.inputs)
    passed_over = model.passed_over if isinstance(model, SeenModel) else []
    return Decoded(decoded, context, streams, passed_over)
