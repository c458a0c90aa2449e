"""Parts of the OpenAPI document that several adapters share."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

PARAMETERS: Schema = {"type": "object", "additionalProperties": True}
STRING: Schema = {"type": "string"}
# The errors that any request to a model can get.
FAILURES = ("400", "408", "413", "415", "500", "503", "504")


def content(description: str, schema: str | None) -> Schema:
    """A JSON answer that follows a named schema, or any JSON without one."""
    found: Schema = {} if schema is None else {"$ref": f"#/components/schemas/{schema}"}
    return {"description": description, "content": {"application/json": {"schema": found}}}


def events(description: str) -> Schema:
    """A stream of server-sent events."""
    schema = {"type": "string", "description": "`data:` lines, each a JSON text"}
    return {"description": description, "content": {"text/event-stream": {"schema": schema}}}


def post(
    summary: str, body: Schema, answer: str | None, error: str = "Error", streams: bool = False
) -> Schema:
    """A POST operation: the media types of its body, the schemas of its answer and its errors."""
    responses = {"200": events("Pieces of the answer") if streams else content("OK", answer)}
    for status in FAILURES:
        responses[status] = content("See the error", error)
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": body},
        "responses": responses,
    }


def json_body(schema: Schema, example: Schema | None = None) -> Schema:
    """A body in JSON, with an example of it if there is one."""
    media: Schema = {"schema": schema}
    if example is not None:
        media["example"] = example
    return {"application/json": media}


def text_body(media_type: str, example: str | None) -> Schema:
    """A body of text, with an example of it if there is one."""
    return {media_type: {"schema": STRING} | ({} if example is None else {"example": example})}
