"""A gRPC server with four methods, in the process of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from headrace.grpc.direct_handler import DirectHandler
from headrace.grpc.http2_server import Http2Server
from headrace.settings import ServerSettings
from headrace.sockets import bind
from headrace.tls.certificates import Certificates
from support import http2_client
from support.http2_client import Http2Client

ECHO, STREAM, WAIT = b"/test.Test/Echo", b"/test.Test/Stream", b"/test.Test/Wait"
DIRECT = b"/test.Test/Direct"


async def echo(body: bytes, context: Any) -> bytes:
    return body


def echo_directly(body: bytes, stream: Any) -> asyncio.Future[bytes]:
    """As `echo`, without a task."""
    answer = asyncio.get_running_loop().create_future()
    answer.add_done_callback(lambda done: stream.answer(done.result()))
    answer.set_result(body)
    return answer


async def stream(bodies: AsyncIterator[bytes], context: Any) -> None:
    async for body in bodies:
        await context.write(body)


async def wait(body: bytes, context: Any) -> bytes:
    return await asyncio.get_running_loop().create_future()


HANDLERS = {
    "Direct": DirectHandler(echo, echo_directly),
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Stream": grpc.stream_stream_rpc_method_handler(stream),
    "Wait": grpc.unary_unary_rpc_method_handler(wait),
}


class Transport(asyncio.Transport):
    """A transport that takes all at once, and hands over what a test gives the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self._is_closing = False

    def write(self, data: Any) -> None:
        self.sent += data

    def close(self) -> None:
        self._is_closing = True

    abort = close

    def pause_reading(self) -> None:
        """Nothing to do: a test hands over what it wants."""

    resume_reading = pause_reading

    def is_closing(self) -> bool:
        return self._is_closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1)


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[tuple[Http2Server, int]]:
    server = Http2Server(ServerSettings(**settings), 0.01, certificates=certificates())
    server.add_registered_method_handlers("test.Test", HANDLERS)
    sock = bind("127.0.0.1", 0)
    await server.start(sock)
    try:
        yield server, sock.getsockname()[1]
    finally:
        await server.stop(None)


def run(
    scenario: Callable[[Http2Server, Http2Client], Awaitable[None]], **settings: Any
) -> Http2Server:
    """Run a scenario with a client, and check that the server holds nothing after it."""

    async def main() -> Http2Server:
        async with serving(**settings) as (server, port):
            client = await Http2Client.connect(port)
            await scenario(server, client)
            await client.aclose()
            while server.connections or server.tasks:
                await asyncio.sleep(0)
            assert server.reception.held == 0
            return server

    return asyncio.run(asyncio.wait_for(main(), 60))


def port_of(server: Http2Server) -> int:
    """The port that a server listens on."""
    port: int = server._sockets[0].getsockname()[1]
    return port


def certificates() -> Certificates | None:
    """What a server has for TLS, where a test is about that."""
    secured = http2_client.SECURED
    return secured.certificates if secured is not None else None


def channel_to(port: int) -> grpc.aio.Channel:
    """A channel of grpcio's to a server."""
    address = f"127.0.0.1:{port}"
    if (secured := http2_client.SECURED) is None:
        return grpc.aio.insecure_channel(address)
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(secured.authority))
