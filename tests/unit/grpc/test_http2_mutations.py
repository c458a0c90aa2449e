"""Whatever a client sends, a connection goes on or ends, and nothing of it is left."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.grpc import http2_frames as frames
from headrace.grpc.http2_connection import Http2Connection
from headrace.grpc.http2_server import Http2Server
from headrace.settings import ServerSettings
from support.http2_client import begin, call, data, message
from support.http2_servers import DIRECT, ECHO, HANDLERS, STREAM, Transport

CALLS = (
    call(1, ECHO, b"hello"),
    call(9, DIRECT, b"hello") + call(11, DIRECT, bytes(16_000)),
    begin(13, DIRECT) + data(13, message(b"a")) + data(13, b"", frames.END_STREAM),
    call(15, DIRECT, b"hello") + frames.reset(15, frames.Fault.CANCEL),
    begin(3, STREAM) + data(3, message(b"a")) + data(3, message(b"b"), frames.END_STREAM),
    begin(5, ECHO, (b"grpc-encoding", b"gzip")) + data(5, message(b"zipped", compressed=1)),
    frames.settings({frames.INITIAL_WINDOW_SIZE: 10}) + frames.window_update(0, 100),
    call(7, ECHO, bytes(30_000)[:16_000]) + frames.reset(7, frames.Fault.CANCEL),
    frames.frame(frames.PING, 0, 0, bytes(8)),
)
FRAME = st.builds(
    frames.frame,
    st.integers(0, 12),
    st.integers(0, 255),
    st.integers(0, 9),
    st.binary(max_size=40),
)
MUTATION = st.tuples(st.integers(0, 2**16), st.binary(max_size=4))


def fail(exc: Exception) -> None:
    raise exc


def survive(sent: bytes, step: int) -> None:
    async def main() -> None:
        server = Http2Server(ServerSettings(max_body_size=20_000, max_receive_bytes=30_000))
        server.add_registered_method_handlers("test.Test", HANDLERS)
        connection = Http2Connection(server)
        transport = Transport()
        # What would be logged and end the connection.
        connection.fail = fail  # type: ignore[method-assign]
        connection.connection_made(transport)
        for start in range(0, len(sent), step):
            # Sockets hand over nothing after a close.
            if not transport.is_closing():
                connection.data_received(sent[start : start + step])
                await asyncio.sleep(0)
        connection.connection_lost(None)
        for ended in await asyncio.gather(*server.tasks, return_exceptions=True):
            # Those that were cancelled before they began.
            assert ended is None or isinstance(ended, asyncio.CancelledError)
        assert server.reception.held == 0
        assert not server.connections
        assert not connection.streams

    asyncio.run(main())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(CALLS), FRAME), max_size=12), st.integers(1, 400))
def test_frames_in_any_order(parts: list[bytes], step: int) -> None:
    survive(frames.PREFACE + frames.settings({}) + b"".join(parts), step)


@settings(max_examples=100, deadline=None)
@given(st.permutations(CALLS), st.lists(MUTATION, min_size=1, max_size=6), st.integers(1, 2000))
def test_calls_with_wrong_bytes(
    parts: list[bytes], mutations: list[tuple[int, bytes]], step: int
) -> None:
    sent = bytearray(frames.PREFACE + frames.settings({}) + b"".join(parts))
    for place, wrong in mutations:
        at = place % len(sent)
        sent[at : at + len(wrong)] = wrong

    survive(bytes(sent), step)
