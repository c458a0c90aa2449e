"""Lets KServe's tests of its REST client ask our server, which `ASKED_SERVER` names.

They pass the client a transport that calls KServe's own application in their process. Here, that
transport sends the request on.
"""

from __future__ import annotations

import os
import sys
import types
from typing import Any

import httpx
import kserve

ADDRESS = httpx.URL(os.environ["ASKED_SERVER"])


class Forwarding(httpx.AsyncBaseTransport):
    """Sends every request to the server."""

    def __init__(self, app: Any) -> None:
        pass

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(host=ADDRESS.host, port=ADDRESS.port)
        # A connection for each: the tests have event loops of their own, and one transport.
        async with httpx.AsyncHTTPTransport() as transport:
            found = await transport.handle_async_request(request)
            await found.aread()
            return found


class DummyModel(kserve.Model):
    """What the tests register with KServe's own server, which is not asked."""

    def load(self) -> bool:
        self.ready = True
        return True


httpx.ASGITransport = Forwarding
# Only its model is imported, and the rest of the module needs a cluster's libraries.
server = types.ModuleType("test.test_server")
server.DummyModel = DummyModel
sys.modules["test.test_server"] = server
