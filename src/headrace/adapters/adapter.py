"""What a protocol adapter declares, once, and what it works with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from headrace.adapters.error_bodies import open_inference_error
from headrace.errors import HeadraceError, InvalidInput
from headrace.protocol.cloud_events import CloudEvents
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelMetadata
from headrace.protocol.mlflow.signature import Signature

Headers = dict[bytes, bytes]
HeaderList = list[tuple[bytes, bytes]]
Schema = dict[str, Any]

JSON_HEADERS: HeaderList = [(b"content-type", b"application/json")]
VERSIONED = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
PART = re.compile(r"{(\w+)}")


class Route(NamedTuple):
    """A path that answers POST; `{name}` and `{version}` in it identify the model.

    With `streams` every answer is streamed; with `may_stream` each request decides.
    """

    path: str
    streams: bool = False
    may_stream: bool = False

    @property
    def is_nameless(self) -> bool:
        """Whether the path names no model, and so leads to the only one of the protocol."""
        return "{name}" not in self.path


def refuse_plugin(model: ModelView) -> None:
    """Refuse a plugin, for protocols that cannot carry its payload.

    Raises:
        InvalidInput: the model is a plugin; the message says where to send its payload.
    """
    if model.model_metadata.payload_type is not None:
        raise InvalidInput(
            f"model '{model.name}' is a plugin: send its payload to /v2/models/{model.name}/raw"
        )


def of_models(*verbs: str, streams: bool = False, may_stream: bool = False) -> tuple[Route, ...]:
    """The routes of verbs below each model's path in `/v2`, with and without a version."""
    paths = [f"{prefix}/{verb}" for verb in verbs for prefix in VERSIONED]
    return tuple(Route(path, streams, may_stream) for path in paths)


class Reply(NamedTuple):
    """An answer over HTTP, still without its length, its request id and the model's headers."""

    status: int
    headers: HeaderList
    body: bytes


class HttpRequest(Protocol):
    """A request over HTTP: header fields by lower-case name, decoded body, ASGI scope.

    If the server asks who is calling, `credentials` are the names of the headers that say so, and
    `hides` tells of each model whether it is not for this caller; None if all of them are.
    """

    @property
    def headers(self) -> Mapping[bytes, bytes]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def scope(self) -> Mapping[str, Any]: ...
    @property
    def credentials(self) -> tuple[bytes | str, ...]: ...
    @property
    def hides(self) -> Callable[[str], bool] | None: ...


class ModelView(Protocol):
    """All that an adapter sees of a model. Until it is loaded, the metadata is empty."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str | None: ...
    @property
    def model_metadata(self) -> ModelMetadata: ...
    @property
    def signature(self) -> Signature | None: ...
    @property
    def scoring_signature(self) -> Signature | None: ...
    @property
    def is_ready(self) -> bool: ...
    @property
    def cloud_events(self) -> CloudEvents | None: ...
    def pass_over(self, kind: str, words: Sequence[str]) -> None: ...


class Directory(Protocol):
    """What an adapter's pages can find out about the models that are served."""

    def names(self) -> list[str]:
        """The names of all models, sorted."""

    def model_ready(self, name: str, version: str | None = None) -> bool:
        """Whether one model can answer now; raises NotFound."""

    def require_ready(self, name: str, version: str | None = None) -> None:
        """Raises NotFound, or ModelNotReady if one model cannot answer now."""

    def versions(self, name: str) -> list[str]:
        """The versions of a model, oldest first; empty if it has no version number."""

    def find(self, name: str | None, version: str | None, protocol: Adapter) -> ModelView:
        """The model of that name, or the only one that speaks the protocol.

        Raises:
            HeadraceError: no model matches, or several do.
        """


class Page(NamedTuple):
    """A route that answers GET about models, such as a list of them.

    `answer` is a method of the adapter. It takes the `Directory` and the path parameters.
    """

    path: str
    answer: Callable[..., Reply]
    summary: str


class Adapter:
    """One protocol over HTTP. A subclass declares what differs from these defaults."""

    # In logs.
    name = ""
    routes: tuple[Route, ...] = ()
    pages: tuple[Page, ...] = ()
    # For requests that name no model: how to name one of several, and the error if there is none.
    named_at = "/v2/models/{name}/infer"
    absent = "no model is served"
    # Other paths whose errors take this protocol's form.
    error_paths: tuple[str, ...] = ()
    # Whether `select` reads the body, which takes long for a large one.
    selects_by_body = False
    # Whether streamed answers are the model's own bytes, rather than events.
    relays = False
    # Whether canaries get requests of this protocol.
    reaches_canaries = True
    # What ends a stream of events.
    last_event = b""
    # OpenAPI components that `operation` refers to.
    schemas: Mapping[str, Schema] = {}

    def speaks(self, model: ModelView) -> bool:
        """Whether the model can be called in this protocol; decides what "the only model" is."""
        metadata = model.model_metadata
        return metadata.payload_type is None and not metadata.is_service

    def prefers(self, model: ModelView) -> bool:
        """Whether the model takes precedence over others that can be called in this protocol."""
        return False

    def select(
        self, name: str | None, version: str | None, request: HttpRequest
    ) -> tuple[str | None, str | None]:
        """The model's name and version: those of the path, unless the protocol says otherwise.

        No name means the only model that speaks the protocol.
        """
        return name, version

    def wants_stream(self, route: Route, body: bytes) -> bool:
        """Whether the answer is to be streamed. Hot."""
        return route.streams

    def text_size(self, request: HttpRequest) -> int:
        """How many bytes of a large body a parser would read at once; takes milliseconds."""
        return len(request.body)

    def decode(self, request: HttpRequest, model: ModelView) -> tuple[InferenceRequest, Any]:
        """The request as the model gets it, and what `encode` needs to know about it.

        Raises:
            HeadraceError: the request is refused.
        """
        raise NotImplementedError

    def encode(self, model: ModelView, response: InferenceResponse, id: str, context: Any) -> Reply:
        """A whole answer.

        Raises:
            BadModelOutput: the model's answer cannot be expressed in this protocol.
        """
        raise NotImplementedError

    def event(self, model: ModelView, piece: InferenceResponse, id: str, context: Any) -> bytes:
        """One server-sent event of a streamed answer.

        Raises:
            BadModelOutput: the piece cannot be expressed in this protocol.
        """
        # Joining lets other threads run meanwhile, if there is much to copy.
        return b"".join((b"data: ", self.encode(model, piece, id, context).body, b"\n\n"))

    def last_events(self, model: ModelView, id: str, context: Any) -> bytes:
        """What ends a streamed answer that did not fail."""
        return self.last_event

    def error(self, error: HeadraceError) -> tuple[int, bytes]:
        """Status and JSON body of a refusal."""
        return open_inference_error(error)

    def error_event(self, body: bytes) -> bytes:
        """The event that ends a failed stream; `body` is the one from `error`."""
        return b"event: error\ndata: %b\n\n" % body

    def operation(self, route: Route, model: ModelView) -> Schema:
        """The OpenAPI operation of a route, for one model that speaks the protocol."""
        raise NotImplementedError
