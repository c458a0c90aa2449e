"""The bodies of admin routes."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request

from headrace.errors import InvalidInput
from headrace.http.body import read_small_body
from headrace.http.header_fields import collect

# As many bytes of JSON as are read in half of the time in which health is to answer.
LARGEST_BODY = 256 * 1024


async def read_object(request: Request) -> dict[str, Any]:
    """The object in the body of a request; an empty one if there is no body.

    Raises:
        InvalidInput: it is something else.
        TooLarge: it is larger than any of these requests needs to be.
    """
    body = await read_small_body(collect(request.scope["headers"]), request.receive, LARGEST_BODY)
    if not body.strip():
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput("the body is not a JSON object") from None
