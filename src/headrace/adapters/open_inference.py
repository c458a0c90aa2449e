"""The Open Inference Protocol over REST, with the binary tensor data extension."""

from __future__ import annotations

from typing import Any

from headrace.adapters.adapter import (
    JSON_HEADERS,
    Adapter,
    HttpRequest,
    ModelView,
    Reply,
    Route,
    Schema,
    of_models,
)
from headrace.adapters.examples import infer_body
from headrace.adapters.openapi_parts import PARAMETERS, STRING, json_body, post
from headrace.errors import InvalidInput, UnsupportedMedia
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.open_inference import rest_binary, rest_json
from headrace.protocol.open_inference.classification import classify
from headrace.protocol.open_inference.counts import COUNTS, Counts
from headrace.protocol.open_inference.mlserver_answers import as_of_mlserver
from headrace.protocol.open_inference.rest_binary import NO_OUTPUTS, RestRequest
from headrace.protocol.open_inference.set_aside import set_aside
from headrace.protocol.open_inference.triton_parameters import take_options
from headrace.protocol.short_keys import remember_short

JSON = b"application/json"
MEDIA_TYPES = (
    JSON,
    b"application/octet-stream",
    # No type at all, and curl's default for a body, which is parsed as JSON all the same.
    b"",
    b"application/x-www-form-urlencoded",
)


@remember_short(128)
def _is_accepted(content_type: bytes) -> bool:
    media_type = content_type.partition(b";")[0].strip().lower()
    # Types of JSON are named like this: RFC 6839.
    is_json = media_type.startswith(b"application/") and media_type.endswith(b"+json")
    return is_json or media_type in MEDIA_TYPES


class OpenInference(Adapter):
    """Tensors in JSON, or as raw bytes after it."""

    name = "open_inference"
    # `generate` is MLServer's other name for the same thing.
    routes = (
        *of_models("infer", "generate"),
        *of_models("infer_stream", "generate_stream", streams=True),
    )

    def __init__(self, counts: Counts = COUNTS) -> None:
        self._counts = counts

    def text_size(self, request: HttpRequest) -> int:
        if (length := request.headers.get(b"inference-header-content-length")) is not None:
            return int(length) if length.isdigit() and len(length) <= 18 else 0
        return len(set_aside(request.body).rest)

    def decode(self, request: HttpRequest, model: ModelView) -> tuple[InferenceRequest, Any]:
        headers, body = request.headers, request.body
        content_type = headers.get(b"content-type", b"")
        if content_type != JSON and not _is_accepted(content_type):
            raise UnsupportedMedia(
                "this route takes application/json, or application/octet-stream with "
                "Inference-Header-Content-Length"
            )
        length = headers.get(b"inference-header-content-length")
        if length is None:
            signature = model.signature
            columns = signature.table_names if signature is not None else None
            decoded = rest_json.decode_request(body, None, self._counts, columns)
        elif not length.isdigit() or len(length) > 18:
            raise InvalidInput(
                "Inference-Header-Content-Length: expected the number of JSON bytes in the body"
            )
        elif int(length) == 0:
            decoded = rest_binary.decode_raw(body, model.model_metadata.inputs)
        else:
            decoded = rest_json.decode_request(body, int(length), self._counts)
        if decoded.request.parameters:
            take_options(decoded.request, model.signature.param_names if model.signature else ())
        return decoded.request, decoded

    def encode(self, model: ModelView, response: InferenceResponse, id: str, context: Any) -> Reply:
        if context.classes:
            response = classify(response, context.classes, model.model_metadata)
        if model.model_metadata.of_mlserver:
            response = as_of_mlserver(response, model.model_metadata.content_typed)
        body, json_length = rest_json.encode_response(
            response,
            model_name=model.name,
            model_version=model.version,
            id=id,
            binary_outputs=context.binary_outputs,
        )
        events = model.cloud_events
        added = events.fields(id) if events is not None else []
        if json_length is None:
            return Reply(200, [*JSON_HEADERS, *added] if added else JSON_HEADERS, body)
        fields = [
            (b"content-type", b"application/octet-stream"),
            (b"inference-header-content-length", b"%d" % json_length),
            *added,
        ]
        return Reply(200, fields, body)

    def event(self, model: ModelView, piece: InferenceResponse, id: str, context: Any) -> bytes:
        # An event is text, so none of its outputs can be binary.
        wanted = RestRequest(context.request, NO_OUTPUTS, context.classes)
        return super().event(model, piece, id, wanted)

    def operation(self, route: Route, model: ModelView) -> Schema:
        body = {
            **json_body({"$ref": "#/components/schemas/InferenceRequest"}, infer_body(model)),
            "application/octet-stream": {"schema": {}},
        }
        verb = "Stream answers of" if route.streams else "Infer with"
        return post(f"{verb} {model.name}", body, "InferenceResponse", streams=route.streams)

    schemas = {
        "InferenceRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string", "maxLength": 256},
                "parameters": PARAMETERS,
                "inputs": {
                    "type": "array",
                    "minItems": 1,
                    "items": {"$ref": "#/components/schemas/Tensor"},
                },
                "outputs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": STRING, "parameters": PARAMETERS},
                    },
                },
            },
        },
        "InferenceResponse": {
            "type": "object",
            "required": ["model_name", "outputs"],
            "properties": {
                "model_name": STRING,
                "model_version": STRING,
                "id": STRING,
                "parameters": PARAMETERS,
                "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            },
        },
        "Tensor": {
            "type": "object",
            "required": ["name", "shape", "datatype", "data"],
            "properties": {
                "name": STRING,
                "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                "datatype": {"type": "string", "enum": list(DATATYPES)},
                "parameters": PARAMETERS,
                "data": {"type": "array", "items": {}},
            },
        },
    }
