"""What one read of a client's bytes may cost the server, however the bytes are chosen."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable

import grpc
import pytest

from headrace.grpc import http2_frames as frames
from headrace.grpc.direct_handler import DirectHandler
from headrace.grpc.http2_connection import (
    CALLS_IN_TURN,
    MAX_FRAMES,
    MAX_OPENED,
    MAX_STREAMS,
    Http2Connection,
)
from headrace.grpc.http2_frames import Fault
from headrace.grpc.http2_server import Http2Server
from headrace.settings import ServerSettings
from support.http2_client import Frame, Http2Client, begin, call, data, message
from support.http2_servers import DIRECT, ECHO, HANDLERS, STREAM, WAIT, Transport, echo, run

Sent = Callable[[bytes], Awaitable[list[Frame]]]


def connected() -> tuple[Http2Connection, Transport]:
    """A connection that a test gives its bytes, and what it sends."""
    server = Http2Server(ServerSettings())
    server.add_registered_method_handlers("test.Test", HANDLERS)
    connection, transport = Http2Connection(server), Transport()
    connection.connection_made(transport)
    return connection, transport


def read_at_once(scenario: Callable[[Sent], Awaitable[None]]) -> None:
    """Run a scenario that gives a connection bytes, each time in one read, and gets its frames."""

    async def main() -> None:
        connection, transport = connected()

        async def read(sent: bytes) -> list[Frame]:
            transport.sent = b""
            connection.data_received(sent)
            # For the calls to be answered, and for what they wrote to leave.
            for _ in range(10):
                await asyncio.sleep(0)
            return frames_of(transport.sent)

        await scenario(read)
        connection.connection_lost(None)
        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), 60))


def frames_of(sent: bytes) -> list[Frame]:
    found = []
    while sent:
        first, flags, stream = frames.HEADER.unpack_from(sent)
        end = frames.HEADER.size + (first >> 8)
        found.append(Frame(first & 0xFF, flags, stream, sent[frames.HEADER.size : end]))
        sent = sent[end:]
    return found


GREETING = frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 0})


def test_a_flood_of_frames_is_read_in_several_turns() -> None:
    async def main() -> None:
        connection, transport = connected()
        ping = frames.frame(frames.PING, 0, 0, bytes(8))
        connection.data_received(GREETING + ping * (2 * MAX_FRAMES))
        at_once = len(frames_of(transport.sent))
        for _ in range(5):
            await asyncio.sleep(0)
        in_the_end = len(frames_of(transport.sent))
        connection.connection_lost(None)

        # With the server's settings, its window, and its acknowledgement of the client's settings.
        assert at_once <= MAX_FRAMES + 3
        assert in_the_end == 2 * MAX_FRAMES + 3

    asyncio.run(main())


def test_who_begins_many_calls_gives_others_a_turn() -> None:
    class Watched(Transport):
        is_reading = True

        def pause_reading(self) -> None:
            self.is_reading = False

        def resume_reading(self) -> None:
            self.is_reading = True

    async def main() -> None:
        connection, _ = connected()
        transport = Watched()
        connection.connection_made(transport)
        few = [call(2 * number + 1, ECHO, b"x") for number in range(CALLS_IN_TURN - 1)]
        connection.data_received(GREETING + b"".join(few))
        assert transport.is_reading
        many = [call(2 * number + 1001, ECHO, b"x") for number in range(CALLS_IN_TURN)]
        connection.data_received(b"".join(many))
        assert not transport.is_reading
        await asyncio.sleep(0)
        assert transport.is_reading
        connection.connection_lost(None)
        await asyncio.sleep(0)

    asyncio.run(main())


def test_windows_that_grow_in_one_read_are_used_once() -> None:
    async def scenario(read: Sent) -> None:
        await read(GREETING + call(1, ECHO, bytes(50)) + call(3, ECHO, bytes(50)))
        sent = await read((frames.window_update(1, 1) + frames.window_update(3, 1)) * 20)

        assert [(each.stream, len(each.payload)) for each in sent] == [(1, 20), (3, 20)]

    read_at_once(scenario)


def test_settings_let_waiting_answers_go_on() -> None:
    async def scenario(read: Sent) -> None:
        await read(GREETING + call(1, ECHO, bytes(50)) + call(3, ECHO, bytes(50)))
        sent = await read(frames.settings({frames.INITIAL_WINDOW_SIZE: 100}))

        assert [each.stream for each in sent if each.flags & frames.END_STREAM and each.stream] == [
            1,
            3,
        ]

    read_at_once(scenario)


def test_a_window_may_shrink_below_zero_and_grow_again() -> None:
    async def scenario(read: Sent) -> None:
        body = bytes(100)
        await read(frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 30}))
        sent = await read(call(1, ECHO, body))
        assert [len(each.payload) for each in sent if each.kind == frames.DATA] == [30]
        sent = await read(frames.settings({frames.INITIAL_WINDOW_SIZE: 10}))
        sent += await read(frames.window_update(1, 20))
        assert not [each for each in sent if each.kind == frames.DATA]
        sent = await read(frames.window_update(1, 75))

        assert b"".join(each.payload for each in sent if each.kind == frames.DATA) == bytes(75)
        assert sent[-1].flags & frames.END_STREAM

    read_at_once(scenario)


def test_direct_calls_that_are_sent_and_cancelled_in_one_read_are_bounded() -> None:
    began = []

    def begin_directly(body: bytes, stream: object) -> asyncio.Future[bytes]:
        began.append(body)
        return asyncio.get_running_loop().create_future()

    async def main() -> None:
        connection, _ = connected()
        connection._handlers[DIRECT.decode()] = DirectHandler(echo, begin_directly)
        numbers = range(1, 2 * MAX_STREAMS + 20, 2)
        sent = [call(each, DIRECT, b"x") + frames.reset(each, Fault.CANCEL) for each in numbers]
        connection.data_received(GREETING + b"".join(sent))
        connection.connection_lost(None)

    asyncio.run(main())
    assert len(began) == MAX_STREAMS


@pytest.mark.parametrize("method", [ECHO, STREAM], ids=["unary", "stream"])
def test_calls_that_are_opened_and_cancelled_in_one_read_are_refused(method: bytes) -> None:
    def cancelled(count: int) -> bytes:
        numbers = range(1, 2 * count + 1, 2)
        return b"".join(begin(each, method) + frames.reset(each, Fault.CANCEL) for each in numbers)

    async def scenario(read: Sent) -> None:
        sent = await read(GREETING + cancelled(MAX_STREAMS + 10))
        refused = [each.stream for each in sent if each.kind == frames.RST_STREAM]
        assert refused == list(range(2 * MAX_STREAMS + 1, 2 * MAX_STREAMS + 20, 2))

    async def flood(read: Sent) -> None:
        last = (await read(GREETING + cancelled(MAX_OPENED + 1)))[-1]
        assert last.kind == frames.GOAWAY
        assert int.from_bytes(last.payload[4:8]) == Fault.ENHANCE_YOUR_CALM

    read_at_once(scenario)
    read_at_once(flood)


def test_calls_that_the_server_is_made_to_end_count_as_opened() -> None:
    async def scenario(read: Sent) -> None:
        numbers = range(1, 2 * MAX_OPENED + 3, 2)
        ended = [begin(each, ECHO) + frames.window_update(each, 0) for each in numbers]
        last = (await read(GREETING + b"".join(ended)))[-1]

        assert last.kind == frames.GOAWAY
        assert int.from_bytes(last.payload[4:8]) == Fault.ENHANCE_YOUR_CALM

    read_at_once(scenario)


def test_who_does_not_read_the_answers_to_its_pings_is_not_read_from() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        ping = frames.frame(frames.PING, 0, 0, bytes(8))
        client.send(ping)
        await client.next(frames.PING)
        (connection,) = server.connections
        while not connection.is_paused:
            client.send(ping * 10_000)
            await asyncio.sleep(0)
        # Its time to read is over, and the connection with it.
        while server.connections:
            await asyncio.sleep(0.01)

    run(scenario, body_timeout=0.05)


def test_small_messages_that_wait_are_counted() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        begun = asyncio.Event()

        async def first_only(bodies: object, context: object) -> None:
            begun.set()
            await asyncio.get_running_loop().create_future()

        server.handlers["/first"] = grpc.stream_stream_rpc_method_handler(first_only)
        client.send(begin(1, b"/first"), data(1, message(b"") * 1000))
        code, details = await client.status(1)

        assert code == 14
        assert "--max-receive-bytes" in details

    run(scenario, max_receive_bytes=100_000)


def test_what_a_stream_has_taken_is_not_counted_while_the_next_message_arrives() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(begin(1, STREAM), frames.settings({frames.INITIAL_WINDOW_SIZE: 2**30}))
        client.send(frames.window_update(0, 2**30))
        whole = message(bytes(15_000))
        # Each time, the beginning of the next message arrives with the end of the one before.
        client.send(data(1, whole[:100]))
        for _ in range(20):
            client.send(data(1, whole[100:] + whole[:100]))
            size = 0
            while size < len(whole):
                size += len((await client.next(frames.DATA, 1)).payload)
        assert server.reception.held <= 100 + 15_005
        client.send(data(1, whole[100:], frames.END_STREAM))
        assert await client.status(1) == (0, "")

    run(scenario, max_receive_bytes=50_000)


def test_a_message_in_tiny_parts_is_put_together() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        body = bytes(range(256)) * 40
        whole = message(body)
        client.send(begin(1, ECHO))
        client.send(*[data(1, whole[at : at + 3]) for at in range(0, len(whole), 3)])
        client.send(data(1, b"", frames.END_STREAM))
        found = b""
        while len(found) < len(whole):
            found += (await client.next(frames.DATA, 1)).payload

        assert found == whole

    run(scenario)


def test_messages_are_unpacked_by_one_thread_even_if_their_calls_are_cancelled() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        packed = message(gzip.compress(bytes(1_000_000)), compressed=1)
        kind = (b"grpc-encoding", b"gzip")
        for number in range(1, 21, 2):
            client.send(begin(number, WAIT, kind), data(number, packed, frames.END_STREAM))
            client.send(frames.reset(number, Fault.CANCEL))
        client.send(begin(21, ECHO, kind), data(21, packed, frames.END_STREAM))
        client.send(frames.window_update(0, 2**30), frames.window_update(21, 2**30))

        assert await client.status(21) == (0, "")
        assert len(server.reception.unpacking._threads) == 1

    run(scenario)
