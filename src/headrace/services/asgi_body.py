"""The body of an ASGI request, whole."""

from __future__ import annotations

from typing import Any

from headrace.errors import Cancelled


async def read_body(receive: Any) -> bytes:
    """All that `receive` has of a body.

    Raises:
        Cancelled: the caller left before the end.
    """
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("the caller left")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
