"""What the routes of OpenAI's API have in common.

Source: OpenAI's API reference, "Chat Completions", "Responses" and "Errors".
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from headrace.adapters.adapter import (
    JSON_HEADERS,
    Adapter,
    HttpRequest,
    ModelView,
    Reply,
    Route,
    Schema,
)
from headrace.adapters.openapi_parts import STRING, json_body, post
from headrace.errors import (
    AnswerTooLarge,
    BadModelOutput,
    HeadraceError,
    InvalidInput,
    UnsupportedMedia,
)
from headrace.protocol.error_table import row
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.mlflow import scoring
from headrace.protocol.open_inference.json_faults import refusal, syntax_fault

MEDIA_TYPES = (b"", b"application/json")
# Bytes of an answer, or of a piece of one, that are read at most: in one go, which no other request
# is answered during.
LARGEST = 4 * 1024 * 1024

Fields = dict[str, Any]


class _Chosen(msgspec.Struct):
    """The field of a body that says which model is meant."""

    model: str | None = None


_chosen = msgspec.json.Decoder(_Chosen)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class OpenAIRoutes(Adapter):
    """Routes whose requests name their model in the body, for models made for certain tasks.

    A subclass says how a body becomes one of MLflow's scoring protocol, and how the model's
    answer becomes one of OpenAI's.
    """

    named_at = "'model' in the body"
    selects_by_body = True
    last_event = b"data: [DONE]\n\n"
    # What MLflow says its models for these routes are made for, and what people call them.
    tasks: tuple[str, ...] = ()
    kind = ""
    # Of the OpenAPI document: what a request does, and the name of its body's schema.
    summary = ""
    request_schema = ""
    # A request of this protocol that any model for it can answer, but for the model's name.
    example: Schema

    schemas = {
        "OpenAIError": {
            "type": "object",
            "properties": {
                "error": {
                    "type": "object",
                    "properties": {"message": STRING, "type": STRING, "code": STRING},
                }
            },
        },
    }

    def speaks(self, model: ModelView) -> bool:
        return model.model_metadata.task in self.tasks

    def select(
        self, name: str | None, version: str | None, request: HttpRequest
    ) -> tuple[str | None, str | None]:
        """The model that the body names; without a name, the only one of these tasks."""
        try:
            return _chosen.decode(request.body).model or None, None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise InvalidInput(refusal(request.body, _Chosen, "the request body")) from None

    def wants_stream(self, route: Route, body: bytes) -> bool:
        return scoring.wants_stream(body)

    def decode(self, request: HttpRequest, model: ModelView) -> tuple[InferenceRequest, Any]:
        media_type = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media_type not in MEDIA_TYPES:
            raise UnsupportedMedia("this route takes application/json")
        if model.is_ready and not self.speaks(model):
            raise InvalidInput(
                f"model '{model.name}' is not {self.kind}: call it at "
                f"/v2/models/{model.name}/invocations"
            )
        try:
            fields: Fields = _fields.decode(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise InvalidInput(f"the request body: {syntax_fault(request.body)}") from None
        # Which model, and how to send the answer, is for the server.
        fields.pop("model", None)
        if bytes(fields.pop("stream", b"null")) not in (b"true", b"false", b"null"):
            raise InvalidInput("stream: expected true or false")
        body = msgspec.json.encode(self.scoring_body(fields))
        return scoring.decode(body, "application/json", model.signature).request, None

    def scoring_body(self, fields: Fields) -> Fields:
        """The fields of a body as the model takes them; each is raw JSON.

        Raises:
            InvalidInput: one is missing, or asks for what no model here can do.
        """
        raise NotImplementedError

    def answer(self, value: Fields, model: ModelView, id: str) -> Fields:
        """The model's whole answer as OpenAI's clients read it."""
        raise NotImplementedError

    def piece(self, value: Fields, model: ModelView, id: str) -> Fields:
        """A piece of the model's answer as OpenAI's clients read it."""
        return value

    def encode(self, model: ModelView, response: InferenceResponse, id: str, context: Any) -> Reply:
        return Reply(
            200,
            JSON_HEADERS,
            orjson.dumps(self.answer(answered_object(response, model), model, id)),
        )

    def event(self, model: ModelView, piece: InferenceResponse, id: str, context: Any) -> bytes:
        value = self.piece(answered_object(piece, model), model, id)
        return b"data: %b\n\n" % orjson.dumps(value)

    def operation(self, route: Route, model: ModelView) -> Schema:
        example = {"model": model.name, **self.example}
        body = json_body({"$ref": f"#/components/schemas/{self.request_schema}"}, example)
        operation = post(f"{self.summary} {model.name}", body, None, "OpenAIError")
        if model.model_metadata.streams:
            operation["responses"]["200"]["content"]["text/event-stream"] = {"schema": STRING}
        return operation

    def error(self, error: HeadraceError) -> tuple[int, bytes]:
        status = row(error).status
        kind = "invalid_request_error" if status < 500 else "server_error"
        fields = {"message": error.message, "type": kind, "param": None, "code": error.kind}
        return status, orjson.dumps({"error": fields})

    def error_event(self, body: bytes) -> bytes:
        return b"data: %b\n\n" % body


def answered_object(response: InferenceResponse, model: ModelView) -> Fields:
    """The model's answer, which must be one JSON object.

    Raises:
        BadModelOutput: it is something else, or too large to be read in one go.
    """
    if response.nbytes > LARGEST:
        raise AnswerTooLarge(
            f"model '{model.name}' answered {response.nbytes} bytes, at most {LARGEST} are allowed "
            f"on OpenAI's routes; /v2/models/{model.name}/invocations takes more"
        )
    value = orjson.loads(scoring.encode(response, None))
    if isinstance(value, list) and len(value) == 1:
        # A pipeline of transformers answers with a list.
        value = value[0]
    if not isinstance(value, dict):
        raise BadModelOutput(
            f"model '{model.name}' answered with something other than a JSON object, which "
            "OpenAI's clients cannot read"
        )
    return value
