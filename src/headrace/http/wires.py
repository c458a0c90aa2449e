"""How each protocol writes requests and answers over HTTP. Everything else is one flow."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from headrace.errors import BadModelOutput, InvalidInput, UnsupportedMedia, shorten
from headrace.http import multipart
from headrace.http.errors import JSON
from headrace.protocol import media_types, rest_binary, rest_json, scoring
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Tensor, pack_bytes
from headrace.repository.served import ServedModel, State

Headers = dict[bytes, bytes]
HeaderList = list[tuple[bytes, bytes]]


class Wire(Protocol):
    """One protocol's way of writing requests and answers.

    `status` is that of the answer which `encode` made.
    """

    status: int

    def decode(self, body: bytes, headers: Headers, model: ServedModel) -> tuple[Any, Any]:
        """The request, and what `encode` needs to know of it."""

    def encode(
        self, model: ServedModel, response: InferenceResponse, id: str, context: Any
    ) -> tuple[bytes, HeaderList]:
        """The answer's body and its headers, without the length."""


MEDIA_TYPES = (
    b"application/json",
    b"application/octet-stream",
    # None at all, and curl's default for a body: what follows is parsed as JSON all the same.
    b"",
    b"application/x-www-form-urlencoded",
)


@lru_cache(maxsize=256)
def _is_accepted(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() in MEDIA_TYPES


JSON_HEADERS: HeaderList = [(b"content-type", JSON)]


class OpenInference:
    """Open Inference Protocol REST, with the binary tensor data extension."""

    status = 200

    def decode(
        self, body: bytes, headers: Headers, model: ServedModel
    ) -> tuple[InferenceRequest, Any]:
        if not _is_accepted(headers.get(b"content-type", b"")):
            raise UnsupportedMedia(
                "this route takes application/json, or application/octet-stream with "
                "Inference-Header-Content-Length"
            )
        length = headers.get(b"inference-header-content-length")
        if length is None:
            decoded = rest_json.decode_request(body)
        elif not length.isdigit() or len(length) > 18:
            raise InvalidInput(
                "Inference-Header-Content-Length: expected the number of JSON bytes in the body"
            )
        elif int(length) == 0:
            decoded = rest_binary.decode_raw(body, model.model_metadata.inputs)
        else:
            decoded = rest_json.decode_request(body, int(length))
        return decoded.request, decoded.binary_outputs

    def encode(
        self, model: ServedModel, response: InferenceResponse, id: str, context: Any
    ) -> tuple[bytes, HeaderList]:
        body, json_length = rest_json.encode_response(
            response,
            model_name=model.name,
            model_version=model.version,
            id=id,
            binary_outputs=context,
        )
        if json_length is None:
            return body, JSON_HEADERS
        return body, [
            (b"content-type", b"application/octet-stream"),
            (b"inference-header-content-length", b"%d" % json_length),
        ]


class Scoring:
    """MLflow's scoring protocol."""

    status = 200

    def decode(
        self, body: bytes, headers: Headers, model: ServedModel
    ) -> tuple[InferenceRequest, Any]:
        if model.model_metadata.payload_type is not None:
            raise InvalidInput(
                f"model '{model.name}' is a plugin: send its payload to /v2/models/{model.name}/raw"
            )
        content_type = headers.get(b"content-type")
        decoded = scoring.decode(
            body, content_type.decode("latin-1") if content_type else None, model.signature
        )
        return decoded.request, decoded.wrapped

    def encode(
        self, model: ServedModel, response: InferenceResponse, id: str, context: Any
    ) -> tuple[bytes, HeaderList]:
        return scoring.encode(response, context), JSON_HEADERS


class Raw:
    """A plugin's own payload as the body, and its own answer as the body of the answer."""

    status = 200

    def decode(
        self, body: bytes, headers: Headers, model: ServedModel
    ) -> tuple[InferenceRequest, Any]:
        wanted = model.model_metadata.payload_type
        if wanted is None:
            if model.state is not State.READY:
                # Nobody knows what it takes; whoever queues the request says why not.
                return InferenceRequest([]), None
            raise InvalidInput(
                f"model '{model.name}' is not a plugin: ask it at /v2/models/{model.name}/infer"
            )
        field = headers.get(b"content-type")
        given = None if field is None else field.decode("latin-1")
        where = "Content-Type"
        # A plugin may take whole forms itself.
        is_form = given is not None and media_types.essence(given) == "multipart/form-data"
        if given is not None and is_form and not media_types.takes(wanted, given):
            body, given = multipart.payload(body, given)
            where = "Content-Type of the form's part"
        if given is None or not media_types.takes(wanted, given):
            got = "none" if given is None else f"'{shorten(given)}'"
            raise UnsupportedMedia(
                f"{where}: model '{model.name}' takes '{shorten(wanted)}', got {got}"
            )
        if not body:
            raise InvalidInput(f"the payload is empty, expected '{shorten(wanted)}'")
        return InferenceRequest([Tensor("payload", "BYTES", [1], pack_bytes([body]))]), None

    def encode(
        self, model: ServedModel, response: InferenceResponse, id: str, context: Any
    ) -> tuple[bytes, HeaderList]:
        answer, media_type = (bytes(tensor.data[4:]) for tensor in response.outputs)
        if not media_types.GIVEN.fullmatch(media_type.decode("latin-1")):
            raise BadModelOutput(f"model '{model.name}' answered with a malformed media type")
        # What a model says of its answer holds: no browser is to guess a page in it.
        return answer, [(b"content-type", media_type), (b"x-content-type-options", b"nosniff")]


class Target(NamedTuple):
    """Which model a path means; no name means the only one served that speaks this wire."""

    wire: Wire
    name: str | None = None
    version: str | None = None


OPEN_INFERENCE = OpenInference()
SCORING = Scoring()
RAW = Raw()
WIRES: dict[str, Wire] = {
    "infer": OPEN_INFERENCE,
    # MLServer's other name for the same thing.
    "generate": OPEN_INFERENCE,
    "invocations": SCORING,
    "raw": RAW,
}
STREAMS: dict[str, Wire] = {"infer_stream": OPEN_INFERENCE, "generate_stream": OPEN_INFERENCE}
# Routes that name no model.
NAMELESS = {"/invocations": Target(SCORING), "/api/predict": Target(RAW)}


@lru_cache(maxsize=4096)
def match(path: str) -> Target | None:
    """The inference target of a path, or None when it is no inference route. Hot."""
    return NAMELESS.get(path) or _model_route(path, WIRES)


@lru_cache(maxsize=4096)
def match_stream(path: str) -> Target | None:
    """The target of a path whose answer is streamed, or None."""
    return _model_route(path, STREAMS)


def _model_route(path: str, wires: dict[str, Wire]) -> Target | None:
    parts = path.split("/")
    if len(parts) not in (5, 7) or parts[1:3] != ["v2", "models"]:
        return None
    wire = wires.get(parts[-1])
    if wire is None or (len(parts) == 7 and parts[4] != "versions"):
        return None
    return Target(wire, parts[3], parts[5] if len(parts) == 7 else None)
