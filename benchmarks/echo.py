"""The limit of the transport: a raw ASGI application that reads the body and sends fixed bytes."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

# The file whose bytes every answer carries.
ANSWER = "BENCHMARK_ANSWER"

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def create() -> Callable[[dict[str, Any], Receive, Send], Awaitable[None]]:
    """The application; `BENCHMARK_ANSWER` names the file it answers with."""
    body = Path(os.environ[ANSWER]).read_bytes()
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
    }
    answer = {"type": "http.response.body", "body": body}

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send(start)
        await send(answer)

    return app
