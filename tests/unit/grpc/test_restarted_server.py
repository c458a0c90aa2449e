"""grpcio's core goes on after a call that ends grpcio's server."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from headrace.grpc import http2_frames as frames
from headrace.grpc.core import GrpcioCore
from headrace.settings import ServerSettings
from support.http2_client import Http2Client, begin, call, message
from support.http2_servers import ECHO, certificates, echo


async def connected(port: int) -> Http2Client:
    """A client, once the server listens again."""
    while True:
        try:
            return await Http2Client.connect(port)
        except OSError:
            await asyncio.sleep(0)


async def echoed(port: int) -> bytes:
    """The answer to a call; one that the server loses as it ends is made again."""
    while True:
        client = await connected(port)
        client.send(call(1, ECHO, b"hello"))
        try:
            return (await client.next(frames.DATA, 1)).payload
        except AssertionError:
            continue
        finally:
            await client.aclose()


# grpcio leaves the failure of its server in a task that nobody looks at.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_path_that_is_not_utf_8_does_not_end_the_server_for_others() -> None:
    async def main() -> None:
        core = GrpcioCore(ServerSettings(native_grpc=False), 100, certificates())
        core.register("test.Test", {"Echo": grpc.unary_unary_rpc_method_handler(echo)})
        port = await core.start("127.0.0.1", 0)
        hostiles = []
        for _ in range(3):
            hostile = await Http2Client.connect(port)
            hostile.send(begin(1, b"/test.Test/\x80"))
            # It learns that its server ends, and stays.
            await hostile.next(frames.GOAWAY)
            hostiles.append(hostile)
            assert await echoed(port) == message(b"hello")
        for hostile in hostiles:
            await hostile.aclose()
        await core.stop(None)

    asyncio.run(asyncio.wait_for(main(), 120))
