"""Turns what handlers of custom routes return or raise into a status, headers and a body."""

from __future__ import annotations

import asyncio
from typing import Any

from headrace.compat.mlserver.codecs import json
from headrace.compat.mlserver.errors import MLServerError
from headrace.errors import BadModelOutput
from headrace.protocol.model_call import ModelAnswer

JSON = [["content-type", "application/json"]]


async def answer(value: Any, scope: dict[str, Any], briefly: bool = False) -> ModelAnswer:
    """A response object as it is, anything else as JSON.

    `briefly` leaves out the fields of a pydantic model that are unset or None.

    Raises:
        BadModelOutput: it cannot be written as JSON, or is not a response that can be sent.
    """
    if hasattr(value, "status_code"):
        if callable(value):
            return await _run(value, scope)
        headers = [[str(name), str(text)] for name, text in value.headers.items()]
        return ModelAnswer(value.status_code, headers, bytes(value.body))
    for method in ("model_dump_json", "json"):
        if hasattr(type(value), method):
            options = {"exclude_unset": True, "exclude_none": True} if briefly else {}
            text = getattr(value, method)(by_alias=True, **options)
            return ModelAnswer(200, JSON, text.encode("utf-8"))
    return ModelAnswer(200, JSON, json.dumps(value, "the answer of a custom route"))


def answer_to(error: Exception) -> ModelAnswer | None:
    """The answer that an exception asks for; None if it does not ask for one."""
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        return None
    headers = list(JSON)
    if isinstance(error, MLServerError):
        body: Any = {"error": str(error)}
    elif hasattr(error, "detail"):
        # The HTTPException of Starlette and FastAPI.
        body = {"detail": error.detail}
        given = getattr(error, "headers", None) or {}
        headers += [[str(name), str(text)] for name, text in given.items()]
    else:
        return None
    return ModelAnswer(status, headers, json.dumps(body, "the error of a custom route"))


async def _run(application: Any, scope: dict[str, Any]) -> ModelAnswer:
    """Let a Starlette response write itself; whatever it streams is collected."""
    start: dict[str, Any] = {}
    body = bytearray()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        elif message["type"] == "http.response.body":
            body.extend(message.get("body", b""))

    await application(scope, never_leaves, send)
    if not start:
        raise BadModelOutput("the response of a custom route sent nothing")
    headers = [
        [name.decode("latin-1"), value.decode("latin-1")] for name, value in start["headers"]
    ]
    return ModelAnswer(start["status"], headers, bytes(body))


async def never_leaves() -> dict[str, Any]:
    """The `receive` of a client that waits for the answer."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets the event")
