"""grpcio's core goes on after a call that ends grpcio's server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from headrace.grpc import http2_frames as frames
from headrace.grpc.core import GrpcioCore
from headrace.grpc.restarted_server import RestartedServer
from headrace.settings import ServerSettings
from support import http2_client
from support.certificates import Authority
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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("failure", [OSError, ValueError, MemoryError])
def test_a_server_that_cannot_start_again_at_once_tries_until_it_can(
    failure: type[Exception],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http2_client, "SECURED", None)
    pair = Authority(tmp_path).issue()
    key, chain = pair.key.read_bytes(), pair.certificate.read_bytes()
    tries = 0

    def credentials() -> grpc.ServerCredentials:
        nonlocal tries
        tries += 1
        if tries in (2, 3):
            raise failure("for a while")
        return grpc.ssl_server_credentials([(key, chain)])

    async def main() -> None:
        server = RestartedServer([])
        handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Test", handlers),)
        )
        server.add_secure_port("127.0.0.1:0", credentials)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        hostile = await Http2Client.connect(port)
        hostile.send(begin(1, b"/test.Test/\x80"))
        await hostile.next(frames.GOAWAY)
        assert await echoed(port) == message(b"hello")
        await hostile.aclose()
        await server.stop(None)

    asyncio.run(asyncio.wait_for(main(), 120))
    assert tries == 4
    assert caplog.text.count("cannot be started again yet") == 1


def test_a_server_is_not_started_again_for_the_calls_that_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    make = grpc.aio.server
    monkeypatch.setattr(grpc.aio, "server", lambda **how: made.append(how) or make(**how))

    async def main() -> None:
        core = GrpcioCore(ServerSettings(native_grpc=False), 100, certificates())
        core.register("test.Test", {"Echo": grpc.unary_unary_rpc_method_handler(echo)})
        port = await core.start("127.0.0.1", 0)
        client = await Http2Client.connect(port)
        for number in range(1, 40, 2):
            client.send(call(number, ECHO, b"hello"))
            assert (await client.next(frames.DATA, number)).payload == message(b"hello")
        await client.aclose()
        await core.stop(None)

    asyncio.run(asyncio.wait_for(main(), 120))
    assert len(made) == 1
