"""A listener on a free port and clients that write raw bytes to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import uvloop

from headrace.adapters.adapter import JSON_HEADERS, Reply
from headrace.adapters.error_bodies import error_headers
from headrace.errors import Cancelled, TooLarge
from headrace.http.body import SOURCE, read_body
from headrace.http.header_fields import collect
from headrace.http.listener import Listener
from headrace.settings import ServerSettings
from headrace.sockets import bind

if TYPE_CHECKING:
    from support.certificates import Secured

STATUS = {
    "invalid_argument": 400,
    "request_timeout": 408,
    "too_large": 413,
    "headers_too_large": 431,
    "unimplemented": 501,
    "overloaded": 503,
}
GET = b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /v2 HTTP/1.1\r\nHost: x\r\n"
# What the listeners and the clients of a test have for TLS; `over` sets it.
SECURED: Secured | None = None
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def refuse(path, scope, error):
    body = json.dumps({"path": path, "error": error.message}).encode()
    return Reply(STATUS[error.kind], [*JSON_HEADERS, *error_headers(error)], body), "id-1"


async def answer(send, status, body, *headers):
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def echo(scope, receive, send):
    """Answers path and body; a body over 1000 bytes is refused."""
    try:
        body = await read_body(collect(scope["headers"]), receive, 1000, scope.get(SOURCE))
    except Cancelled:
        return
    except TooLarge:
        await answer(send, 413, b"too large", (b"connection", b"close"))
    else:
        await answer(send, 200, scope["path"].encode() + b" " + body)


class Client:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def read_answer(self):
        """Status, headers and body of the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:-2])
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, body

    async def ask(self, data):
        await self.send(data)
        return await self.read_answer()

    async def is_closed(self):
        """Wait for the server to close; False when it sends something instead."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True


def serve(scenario, app=echo, **settings):
    """Run `scenario(listener, connect)` against a listener of its own, within ten seconds."""

    async def main():
        sock = bind("127.0.0.1", 0)
        address = sock.getsockname()
        certificates, context, _ = SECURED or (None, None, None)
        listener = await Listener.start(
            *(app, [sock], ServerSettings(**settings), refuse),
            sweep_interval=0.05,
            certificates=certificates,
        )
        clients = []

        async def connect():
            clients.append(Client(*await asyncio.open_connection(*address, ssl=context)))
            return clients[-1]

        try:
            await asyncio.wait_for(scenario(listener, connect), 10)
        finally:
            await listener.stop()
            for client in clients:
                client.writer.close()

    # TLS is between the loop's transports and the connections, so try it with those of a server.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if SECURED else None) as runner:
        runner.run(main())


def refused(data, status, path="/v2", **settings):
    """Send `data`; the answer is an error in JSON, and the connection closes."""
    answers = []

    async def scenario(_listener, connect):
        client = await connect()
        with contextlib.suppress(ConnectionError):
            client.writer.write(data)
        answers.append(await client.read_answer())
        assert await client.is_closed()

    serve(scenario, **settings)
    code, headers, body = answers[0]
    assert code == status, body
    assert headers["connection"] == "close"
    assert headers["content-type"] == "application/json"
    assert "date" in headers
    parsed = json.loads(body)
    assert parsed["path"] == path
    return parsed["error"]


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)
