"""Compressing a large answer holds up no other request, on either path."""

from __future__ import annotations

import asyncio
import json
import threading

import numpy as np
import pytest

from headrace import Model
from headrace.application import Application
from headrace.http import inference
from headrace.http.listener import Listener
from headrace.settings import ModelSettings, ServerSettings
from headrace.sockets import bind
from headrace.sources.supply import Supply


class Ones(Model):
    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.ones(int(x[0]))


BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [50_000]}]}
).encode()
HEAD = b"POST /v2/models/Ones/infer HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n"
KNOWN = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("sent", [KNOWN, CHUNKED], ids=["direct", "ASGI"])
def test_health_answers_while_a_large_answer_is_compressed(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, healthy = threading.Event(), threading.Event()

    def compress(body: bytes, accepted: bytes) -> tuple[bytes, str | None]:
        begun.set()
        assert healthy.wait(60), "nothing else was answered during compression"
        return b"small", "gzip"

    monkeypatch.setattr(inference, "compress", compress)

    async def main() -> bytes:
        settings = ServerSettings(parallel_workers=0)
        own = ModelSettings("Ones", f"{__name__}:Ones", inline=True)
        application = Application(settings, Supply([own], lambda name: [own]))
        assert await application.load()
        sock = bind("127.0.0.1", 0)
        address = sock.getsockname()
        listener = await Listener.start(
            application.http, [sock], settings, application.refusals.refuse
        )
        try:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(sent)
            assert await asyncio.to_thread(begun.wait, 60)
            other, asking = await asyncio.open_connection(*address)
            asking.write(LIVE)
            assert b"200 OK" in await other.readuntil(b"\r\n\r\n")
            healthy.set()
            head = await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(5) == b"small"
            for each in (writer, asking):
                each.close()
            return head
        finally:
            await listener.stop()
            await application.close()

    head = asyncio.run(main())

    assert b"content-encoding: gzip" in head
    assert b"content-length: 5\r\n" in head
