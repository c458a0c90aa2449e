"""What is left of connections that have ended: nothing that waits for the collector of cycles."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from raw_http import GET, POST, serve

SENT = {
    "nothing": b"",
    "a request": GET,
    "a request with a body": POST + b"Content-Length: 3\r\n\r\nabc",
    "two requests": GET + GET,
    "half a head": GET[:10],
    "no request": b"\0\r\n\r\n",
    "a request and half of one": GET + GET[:10],
}


@pytest.mark.parametrize("sent", list(SENT))
def test_a_connection_that_has_ended_is_freed_without_the_collector(sent: str) -> None:
    async def scenario(listener: Any, connect: Any) -> None:
        gc.collect()
        gc.disable()
        client = await connect()
        await client.send(SENT[sent])
        for _ in range(SENT[sent].count(GET) or "body" in sent):
            assert (await client.read_answer())[0] == 200
        while not listener.connections:
            await asyncio.sleep(0)
        ended = [weakref.ref(each) for each in listener.connections]
        client.writer.transport.abort()
        while any(each() is not None for each in ended):
            await asyncio.sleep(0.001)

    try:
        serve(scenario)
    finally:
        gc.enable()
