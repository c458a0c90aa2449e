"""OpenAI's responses, for MLflow's ResponsesAgent.

Sources: OpenAI's API reference, "Create a model response"; MLflow's agent server, which answers
`/responses`.
"""

from __future__ import annotations

from time import time

import msgspec

from headrace.adapters.adapter import ModelView, Route
from headrace.adapters.openai_forms import Fields, OpenAIRoutes
from headrace.errors import InvalidInput
from headrace.protocol.messages import RESPONSES_AGENT

# A list as raw JSON, of which only the brackets matter.
_items = msgspec.json.Decoder(list[msgspec.Raw])


class Responses(OpenAIRoutes):
    """Input items, answered by output items; a stream has the events that the agent yields."""

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

    def answer(self, value: Fields, model: ModelView, id: str) -> Fields:
        # The fields that OpenAI's answers always have, for those that the agent leaves out.
        always = {
            "id": f"resp_{id}",
            "object": "response",
            "created_at": int(time()),
            "model": model.name,
            "status": "completed",
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }
        return {**always, **value}

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


def _with_instructions(given: bytes, instructions: bytes) -> list[object]:
    """Input items, after the instructions as a system message; MLflow takes no other form.

    Raises:
        InvalidInput: the input is neither a text nor a list.
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
    return items


def _message(role: str, text: bytes) -> dict[str, object]:
    return {"role": role, "content": msgspec.Raw(text)}
