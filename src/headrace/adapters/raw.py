"""A plugin's payload as the body of the request, and its result as the body of the answer."""

from __future__ import annotations

from typing import Any

from headrace.adapters import multipart
from headrace.adapters.adapter import (
    Adapter,
    HttpRequest,
    ModelView,
    Reply,
    Route,
    Schema,
    of_models,
)
from headrace.adapters.openapi_parts import post
from headrace.errors import BadModelOutput, InvalidInput, UnsupportedMedia, shorten
from headrace.protocol import media_types
from headrace.protocol.blocks import whole_of
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Tensor, pack_bytes


class Raw(Adapter):
    """Bytes of the plugin's media type, bare or as the only file of a form."""

    name = "raw"
    named_at = "/v2/models/{name}/raw"
    absent = "no plugin is served"
    routes = (Route("/api/predict"), *of_models("raw"))

    def speaks(self, model: ModelView) -> bool:
        return model.model_metadata.payload_type is not None

    def text_size(self, request: HttpRequest) -> int:
        # The payload is for the model to read.
        return 0

    def decode(self, request: HttpRequest, model: ModelView) -> tuple[InferenceRequest, Any]:
        wanted = model.model_metadata.payload_type
        if wanted is None:
            if not model.is_ready:
                # What it takes is not known yet. Queueing the request raises the reason.
                return InferenceRequest([]), None
            raise InvalidInput(
                f"model '{model.name}' is not a plugin: call it at /v2/models/{model.name}/infer"
            )
        body = request.body
        field = request.headers.get(b"content-type")
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

    def encode(self, model: ModelView, response: InferenceResponse, id: str, context: Any) -> Reply:
        answer, media_type = (whole_of(memoryview(tensor.data)[4:]) for tensor in response.outputs)
        if not media_types.GIVEN.fullmatch(media_type.decode("latin-1")):
            raise BadModelOutput(f"model '{model.name}' answered with a malformed media type")
        # The model's media type is final: no browser may guess a page from the bytes.
        fields = [(b"content-type", media_type), (b"x-content-type-options", b"nosniff")]
        return Reply(200, fields, answer)

    def operation(self, route: Route, model: ModelView) -> Schema:
        metadata = model.model_metadata
        wanted = metadata.payload_type or "*/*"
        form = {
            "schema": {"type": "object", "properties": {"file": _payload(wanted)}},
            "encoding": {"file": {"contentType": wanted}},
        }
        body = {wanted: {"schema": _payload(wanted)}, "multipart/form-data": form}
        operation = post(f"Score a payload with {model.name}", body, None)
        given = metadata.parameters.get("response_content_type") or "*/*"
        operation["responses"]["200"]["content"] = {given: {"schema": _payload(given)}}
        return operation


def _payload(media_type: str) -> Schema:
    if media_types.essence(media_type) in ("application/json", "*/*"):
        return {}
    return {"type": "string", "contentMediaType": media_type}
