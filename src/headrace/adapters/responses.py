"""OpenAI's responses, for MLflow's ResponsesAgent.

Sources: OpenAI's API reference, "Create a model response"; MLflow's agent server, which answers
`/responses`.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import time
from typing import Any

import msgspec
import orjson

from headrace.adapters.adapter import HttpRequest, ModelView, Route
from headrace.adapters.openai_forms import Fields, OpenAIRoutes, answered_object
from headrace.adapters.response_events import ResponseEvents
from headrace.errors import InvalidInput
from headrace.protocol.messages import RESPONSES_AGENT, InferenceRequest, InferenceResponse

# A list as raw JSON, of which only the brackets matter.
_items = msgspec.json.Decoder(list[msgspec.Raw])


class Responses(OpenAIRoutes):
    """Input items, answered by output items; a stream has the agent's events in OpenAI's frame."""

    name = "responses"
    kind = "a responses agent"
    absent = "no responses agent is served"
    routes = (Route("/responses", may_stream=True), Route("/v1/responses", may_stream=True))
    tasks = (RESPONSES_AGENT,)
    summary = "Respond with"
    request_schema = "ResponsesRequest"
    example = {"input": [{"role": "user", "content": "Hello!"}]}

    def scoring_body(self, fields: Fields) -> Fields:
        if "input" not in fields:
            raise InvalidInput("the request body: expected 'input', a text or a list of items")
        for name in ("previous_response_id", "conversation"):
            if bytes(fields.pop(name, b"null")) != b"null":
                raise InvalidInput(
                    f"{name}: the server keeps no conversations; send all of it as 'input'"
                )
        fields["input"] = _with_instructions(fields["input"], fields.pop("instructions", b"null"))
        return fields

    def decode(self, request: HttpRequest, model: ModelView) -> tuple[InferenceRequest, Any]:
        return super().decode(request, model)[0], ResponseEvents()

    def answer(self, value: Fields, model: ModelView, id: str) -> Fields:
        return {**_always(model, id), "status": "completed", **value}

    def event(
        self, model: ModelView, piece: InferenceResponse, id: str, context: ResponseEvents
    ) -> bytes:
        size = sum(tensor.nbytes for tensor in piece.outputs)
        value = answered_object(piece, model)
        return _written(context.around(value, _always(model, id), size))

    def last_events(self, model: ModelView, id: str, context: ResponseEvents) -> bytes:
        return _written(context.end(_always(model, id))) + self.last_event

    schemas = {
        **OpenAIRoutes.schemas,
        "ResponsesRequest": {
            "type": "object",
            "required": ["input"],
            "additionalProperties": True,
            "properties": {
                "model": {"type": "string", "description": "name of the model"},
                "input": {"description": "a text, or a list of items"},
                "stream": {"type": "boolean", "description": "answer with server-sent events"},
            },
        },
    }


def _always(model: ModelView, id: str) -> Fields:
    """The fields that OpenAI's answers always have, for those that the agent leaves out."""
    return {
        "id": f"resp_{id}",
        "object": "response",
        "created_at": int(time()),
        "model": model.name,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def _written(events: Iterable[Fields]) -> bytes:
    return b"".join([b"data: %b\n\n" % orjson.dumps(event) for event in events])


def _with_instructions(given: bytes, instructions: bytes) -> list[object]:
    """Input items, after the instructions as a system message; MLflow takes no other form.

    Raises:
        InvalidInput: the input is neither a text nor a list, or the instructions are no text.
    """
    items: list[object]
    if bytes(given)[:1] == b'"':
        items = [_message("user", given)]
    else:
        try:
            items = [*_items.decode(given)]
        except msgspec.DecodeError:
            raise InvalidInput("input: expected a text or a list of items") from None
    if bytes(instructions)[:1] == b'"':
        items.insert(0, _message("system", instructions))
    elif bytes(instructions) != b"null":
        raise InvalidInput("instructions: expected a text")
    return items


def _message(role: str, text: bytes) -> dict[str, object]:
    return {"role": role, "content": msgspec.Raw(text)}
