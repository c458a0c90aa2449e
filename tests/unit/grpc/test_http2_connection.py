"""HTTP/2 as a client sees it: the answers, the frames they come in, and protocol errors."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import grpc
import pytest

from headrace.grpc import http2_frames as frames
from headrace.grpc.hpack import Decoder, indexed, literal
from headrace.grpc.http2_frames import Fault
from headrace.grpc.http2_server import Http2Server
from support.http2_client import CALL, Http2Client, begin, call, data, message
from support.http2_servers import DIRECT, ECHO, STREAM, WAIT, channel_to, port_of, run, serving

# With a client that speaks no TLS.
TCP_ONLY = pytest.mark.parametrize("over", ["TCP"], indirect=True)

INTERNAL, UNIMPLEMENTED, UNAVAILABLE = 13, 12, 14


async def body_of(client: Http2Client, stream: int, size: int) -> bytes:
    """The data of a stream, of which so many bytes are expected."""
    found = b""
    while len(found) < size:
        found += (await client.next(frames.DATA, stream)).payload
    return found


@pytest.mark.parametrize("method", [ECHO, DIRECT], ids=["task", "direct"])
def test_bytes_may_arrive_one_by_one(method: bytes) -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        for byte in call(1, method, b"hello"):
            client.send(bytes((byte,)))
            await asyncio.sleep(0)

        assert (await client.next(frames.DATA, 1)).payload == message(b"hello")
        assert await client.status(1) == (0, "")

    run(scenario)


@pytest.mark.parametrize("method", [ECHO, DIRECT], ids=["task", "direct"])
def test_a_message_may_be_cut_anywhere(method: bytes) -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        whole = message(b"hello")
        for cut in range(len(whole) + 1):
            number = 2 * cut + 1
            client.send(begin(number, method), data(number, whole[:cut]), data(number, whole[cut:]))
            client.send(data(number, b"", frames.END_STREAM))
            assert (await client.next(frames.DATA, number)).payload == whole

    run(scenario)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (b"application/grpc", b"200"),
        (b"application/grpc+proto", b"200"),
        (b"Application/gRPC;v=1", b"200"),
        (b"application/grpc-web", b"415"),
        (b"application/json", b"415"),
    ],
)
def test_the_content_type_is_that_of_gRPC(kind: bytes, status: bytes) -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        fields = [*CALL[:-1], (b":path", ECHO)]
        fields.sort(key=lambda field: not field[0].startswith(b":"))
        encoded = b"".join(literal(*field) for field in (*fields, (b"content-type", kind)))
        client.send(frames.headers(1, encoded, 0), data(1, message(b""), frames.END_STREAM))
        answer = await client.next(frames.HEADERS, 1)

        assert dict(Decoder().decode(answer.payload, 2**20) or ())[b":status"] == status

    run(scenario)


def test_the_server_says_what_it_can_unpack() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(begin(1, ECHO, (b"grpc-encoding", b"snappy")))
        client.send(data(1, message(b"a", compressed=1)))
        answer = await client.next(frames.HEADERS, 1)

        fields = dict(Decoder().decode(answer.payload, 2**20) or ())
        assert fields[b"grpc-accept-encoding"] == b"identity,gzip,deflate"

    run(scenario)


@pytest.mark.parametrize("method", [ECHO, DIRECT], ids=["task", "direct"])
def test_padding_and_priority_are_passed_over(method: bytes) -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        opened = begin(1, method)[frames.HEADER.size :]
        padded = b"\x03" + bytes(5) + opened + bytes(3)
        flags = frames.END_HEADERS | frames.PADDED | frames.WITH_PRIORITY
        client.send(frames.frame(frames.HEADERS, flags, 1, padded))
        body = b"\x04" + message(b"hello") + bytes(4)
        client.send(data(1, body, frames.PADDED | frames.END_STREAM))

        assert (await client.next(frames.DATA, 1)).payload == message(b"hello")

    run(scenario)


def test_the_same_block_means_other_fields_after_the_table_has_changed() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        def remembered(name: bytes, value: bytes) -> bytes:
            return b"\x40" + literal(name, value)[1:]

        post = indexed(3) + indexed(6)
        kind = remembered(b"content-type", b"application/grpc")
        path = remembered(b":path", ECHO)
        client.send(frames.headers(1, post + path + kind, 0))
        client.send(data(1, message(b"a"), frames.END_STREAM))
        # Now the content type has the number 62, and the path 63.
        same = post + indexed(63) + indexed(62)
        for number in (3, 5):
            client.send(frames.headers(number, same, 0))
            client.send(data(number, message(b"b"), frames.END_STREAM))
            assert await client.status(number) == (0, "")
        client.send(frames.headers(7, same + remembered(b"new", b"field"), 0))
        client.send(data(7, message(b"c"), frames.END_STREAM))
        assert await client.status(7) == (0, "")
        # Both numbers have moved: the same block has a field twice, and no path.
        client.send(frames.headers(9, same, 0))
        reset = await client.next(frames.RST_STREAM, 9)
        assert int.from_bytes(reset.payload) == Fault.PROTOCOL_ERROR

    run(scenario)


def test_a_large_answer_waits_for_the_windows_of_its_stream_and_connection() -> None:
    size = 200_000
    sent = message(bytes(size))

    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 1000}), begin(1, ECHO))
        client.send(data(1, sent[:16_384]))
        await client.next(frames.WINDOW_UPDATE, 1)
        for start in range(16_384, len(sent), 16_384):
            client.send(data(1, sent[start : start + 16_384]))
        client.send(data(1, b"", frames.END_STREAM))
        found = await body_of(client, 1, 1000)
        # Another call is answered meanwhile.
        client.send(call(3, ECHO, b"small"))
        assert await client.status(3) == (0, "")
        client.send(frames.window_update(1, size))
        found += await body_of(client, 1, frames.DEFAULT_WINDOW - 1000 - 10)
        client.send(frames.window_update(0, size))
        found += await body_of(client, 1, len(sent) - len(found))

        assert found == sent
        assert await client.status(1) == (0, "")

    run(scenario)


def test_a_stream_is_answered_beyond_the_first_window() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(begin(1, STREAM))
        one = message(bytes(16_000))
        for _ in range(20):
            client.send(data(1, one), frames.window_update(0, len(one)))
            client.send(frames.window_update(1, len(one)))
            assert await body_of(client, 1, len(one)) == one
        client.send(data(1, b"", frames.END_STREAM))

        assert await client.status(1) == (0, "")

    run(scenario)


def test_a_caller_who_leaves_ends_its_call() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(call(1, WAIT, b""), call(3, ECHO, b"x"))
        assert await client.status(3) == (0, "")
        assert len(server.tasks) == 1
        client.send(frames.reset(1, Fault.CANCEL), call(5, ECHO, b"x"))
        assert await client.status(5) == (0, "")
        while server.tasks:
            await asyncio.sleep(0)

    run(scenario)


def test_a_deadline_ends_the_call() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(call(1, WAIT, b"", (b"grpc-timeout", b"10m")))

        assert await client.status(1) == (4, "Deadline Exceeded")

    run(scenario)


@pytest.mark.parametrize(
    ("sent", "code", "details"),
    [
        (begin(1, b"/no/Such"), UNIMPLEMENTED, "Method not found!"),
        (begin(1, ECHO, flags=frames.END_STREAM), INTERNAL, "the call has no message"),
        (
            begin(1, ECHO) + data(1, message(b"a", size=9), frames.END_STREAM),
            INTERNAL,
            "the call ends in the middle of a message",
        ),
        (
            begin(1, ECHO) + data(1, message(b"a") * 2, frames.END_STREAM),
            INTERNAL,
            "the call has more than one message",
        ),
        (
            begin(1, ECHO) + data(1, message(b"a", compressed=1)),
            INTERNAL,
            "the first byte of the message is wrong",
        ),
        (
            begin(1, ECHO, (b"grpc-encoding", b"snappy")) + data(1, message(b"a", compressed=1)),
            UNIMPLEMENTED,
            "grpc-encoding: expected gzip or deflate, got 'snappy'",
        ),
        (
            call(1, ECHO, b"a", (b"grpc-timeout", b"10 seconds")),
            INTERNAL,
            "grpc-timeout: expected something like 10S, got '10 seconds'",
        ),
        (call(1, ECHO, b"a", (b"te", b"gzip")), INTERNAL, "te: expected trailers, got 'gzip'"),
        (call(1, ECHO, b"a", (b"a-bin", b"?")), INTERNAL, "a-bin: expected base64"),
        (
            begin(1, ECHO, (b"grpc-encoding", b"gzip"))
            + data(1, message(b"a", compressed=1), frames.END_STREAM),
            INTERNAL,
            "the message is not gzip",
        ),
    ],
    ids=[
        "method",
        "no message",
        "middle",
        "two",
        "flag",
        "encoding",
        "timeout",
        "te",
        "binary",
        "not gzip",
    ],
)
def test_a_call_that_is_not_gRPC_is_refused(sent: bytes, code: int, details: str) -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(sent)
        assert await client.status(1) == (code, details)
        client.send(call(3, ECHO, b"x"))
        assert await client.status(3) == (0, "")

    run(scenario)


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (data(1, b""), Fault.PROTOCOL_ERROR),
        (begin(2, ECHO), Fault.PROTOCOL_ERROR),
        (begin(1, ECHO) * 2, Fault.PROTOCOL_ERROR),
        (frames.HEADER.pack(2**20 << 8, 0, 1), Fault.FRAME_SIZE_ERROR),
        (frames.headers(1, b"\x80", 0), Fault.COMPRESSION_ERROR),
        (frames.frame(frames.HEADERS, 0, 1) + data(1, b""), Fault.PROTOCOL_ERROR),
        (frames.frame(frames.CONTINUATION, 0, 1), Fault.PROTOCOL_ERROR),
        (frames.window_update(0, 0), Fault.PROTOCOL_ERROR),
        (frames.window_update(1, 1), Fault.PROTOCOL_ERROR),
        (frames.window_update(0, 2**31 - 1), Fault.FLOW_CONTROL_ERROR),
        (frames.frame(frames.PING, 0, 0, b"short"), Fault.FRAME_SIZE_ERROR),
        (frames.frame(frames.SETTINGS, 0, 0, b"short"), Fault.FRAME_SIZE_ERROR),
        (frames.settings({frames.INITIAL_WINDOW_SIZE: 2**31}), Fault.FLOW_CONTROL_ERROR),
        (frames.settings({frames.ENABLE_PUSH: 2}), Fault.PROTOCOL_ERROR),
        (frames.settings({frames.MAX_FRAME_SIZE: 100}), Fault.PROTOCOL_ERROR),
        (frames.frame(frames.SETTINGS, frames.ACK, 0, bytes(6)), Fault.FRAME_SIZE_ERROR),
        (frames.frame(frames.SETTINGS, 0, 1), Fault.PROTOCOL_ERROR),
        (frames.frame(frames.PING, 0, 1, bytes(8)), Fault.PROTOCOL_ERROR),
        (frames.frame(frames.GOAWAY, 0, 1, bytes(8)), Fault.PROTOCOL_ERROR),
        (frames.frame(frames.PRIORITY, 0, 0, bytes(5)), Fault.PROTOCOL_ERROR),
        (frames.frame(frames.PRIORITY, 0, 1, bytes(4)), Fault.FRAME_SIZE_ERROR),
        (frames.frame(frames.WINDOW_UPDATE, 0, 0, bytes(3)), Fault.FRAME_SIZE_ERROR),
        (frames.frame(frames.RST_STREAM, 0, 1, bytes(3)), Fault.FRAME_SIZE_ERROR),
        (frames.frame(frames.HEADERS, 36, 1, bytes(4)), Fault.FRAME_SIZE_ERROR),
        (begin(3, ECHO) + begin(1, ECHO), Fault.PROTOCOL_ERROR),
        (
            begin(1, ECHO)
            + frames.window_update(1, 2**30)
            + frames.settings({frames.INITIAL_WINDOW_SIZE: 2**31 - 1}),
            Fault.FLOW_CONTROL_ERROR,
        ),
        (frames.reset(1, Fault.CANCEL), Fault.PROTOCOL_ERROR),
        (frames.frame(frames.PUSH_PROMISE, 0, 1, bytes(4)), Fault.PROTOCOL_ERROR),
        (begin(1, ECHO) + data(1, b"\x09", frames.PADDED), Fault.PROTOCOL_ERROR),
    ],
)
def test_what_breaks_the_protocol_ends_the_connection(sent: bytes, fault: Fault) -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(sent)

        assert (await client.fault())[0] == fault

    run(scenario)


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (data(1, message(b"more")), Fault.STREAM_CLOSED),
        (frames.headers(1, literal(b"a", b"b"), frames.END_STREAM), Fault.STREAM_CLOSED),
        (frames.window_update(1, 0), Fault.PROTOCOL_ERROR),
        (frames.window_update(1, 2**31 - 1), Fault.FLOW_CONTROL_ERROR),
    ],
    ids=["data", "fields", "by nothing", "too much"],
)
def test_what_breaks_the_protocol_on_one_stream_ends_that_call(sent: bytes, fault: Fault) -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(call(1, WAIT, b""), sent)
        reset = await client.next(frames.RST_STREAM, 1)
        assert int.from_bytes(reset.payload) == fault
        client.send(call(3, ECHO, b"x"))
        assert await client.status(3) == (0, "")
        assert not server.tasks

    run(scenario)


def test_the_reserved_bit_of_a_stream_is_passed_over() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(call(2**31 + 1, ECHO, b"x"))

        assert await client.status(1) == (0, "")

    run(scenario)


@TCP_ONLY
def test_the_first_frame_has_to_be_settings() -> None:
    async def main() -> bytes:
        async with serving() as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(frames.PREFACE + frames.frame(frames.PING, 0, 0, bytes(8)))
            answer = await reader.read()
            writer.close()
            return answer

    assert b"has to be settings" in asyncio.run(main())


def test_a_client_may_forbid_a_table_of_fields() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        header_table_size = 1
        client.send(frames.settings({header_table_size: 0}))
        client.send(call(1, ECHO, b"x"), call(3, ECHO, b"y"))
        first = await client.next(frames.HEADERS, 1)
        second = await client.next(frames.HEADERS, 3)

        # The next block has to say that the table has no size (RFC 7541, section 4.2).
        assert first.payload == frames.NO_TABLE + frames.ANSWER
        assert second.payload == frames.ANSWER

    run(scenario)


def test_a_failure_of_a_handler_is_a_status_whatever_it_left_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(body: bytes, context: Any) -> bytes:
        context.set_trailing_metadata(((1, 2),))
        return body

    async def scenario(server: Http2Server, client: Http2Client) -> None:
        server.handlers["/broken"] = grpc.unary_unary_rpc_method_handler(broken)
        client.send(call(1, b"/broken", b""))
        assert (await client.status(1))[0] == INTERNAL

    run(scenario)
    assert [record.getMessage() for record in caplog.records] == ["a call failed; this is a bug"]


@pytest.mark.parametrize("broken", ["_heads", "deadline"], ids=["reading", "sweeping"])
def test_a_failure_in_a_connection_ends_no_other(
    broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(call(1, WAIT, b"", (b"grpc-timeout", b"500m")))
        other = await Http2Client.connect(port_of(server))
        other.send(frames.frame(frames.PING, 0, 0, bytes(8)))
        await other.next(frames.PING)
        for connection in server.connections:
            if not connection.streams:
                # As if there was a bug.
                setattr(connection, broken, None)
        if broken == "_heads":
            other.send(call(1, ECHO, b"x"))
        fault, _ = await other.fault()
        await other.aclose()

        assert fault == Fault.INTERNAL_ERROR
        assert (await client.status(1))[0] == 4

    run(scenario)
    logged = [record.getMessage() for record in caplog.records]
    assert logged == ["a gRPC connection failed; this is a bug"]


@TCP_ONLY
def test_http_1_is_told_what_is_spoken_here() -> None:
    async def main() -> bytes:
        async with serving() as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return answer

    assert b"this port speaks gRPC" in asyncio.run(main())


def test_a_ping_is_answered() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(frames.frame(frames.PING, 0, 0, b"12345678"))
        answer = await client.next(frames.PING)

        assert (answer.flags, answer.payload) == (frames.ACK, b"12345678")

    run(scenario)


def test_calls_that_are_on_their_way_when_the_listener_closes_are_answered() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(call(1, ECHO, b"x"))
        assert await client.status(1) == (0, "")
        stopping = asyncio.ensure_future(server.stop(30))
        await client.next(frames.GOAWAY)
        ping = await client.next(frames.PING)
        # The client sent this before it had read the first good-bye.
        client.send(call(3, ECHO, b"y"))
        assert await client.status(3) == (0, "")
        client.send(frames.frame(frames.PING, frames.ACK, 0, ping.payload))
        last = await client.next(frames.GOAWAY)
        assert struct.unpack(">I", last.payload[:4]) == (3,)
        client.send(call(5, ECHO, b"z"))
        refused = await client.next(frames.RST_STREAM, 5)
        assert int.from_bytes(refused.payload) == Fault.REFUSED_STREAM
        await client.aclose()
        await stopping

    run(scenario)


def test_a_stop_cuts_calls_when_its_time_is_over() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(call(1, WAIT, b""), call(3, ECHO, b"x"))
        assert await client.status(3) == (0, "")
        await server.stop(None)

        assert await client.status(1) == (UNAVAILABLE, "the server is stopping")

    run(scenario)


@pytest.mark.parametrize("method", [ECHO, DIRECT], ids=["task", "direct"])
def test_the_client_of_grpcio_calls_as_much_as_it_likes(method: bytes) -> None:
    async def main() -> None:
        async with (
            serving() as (_, port),
            channel_to(port) as channel,
        ):
            echo = channel.unary_unary(method.decode())
            sizes = [0, 1, 5, 16_379, 16_380, 65_530, 65_535, 65_536, 1_000_000]
            bodies = [bytes(size) for size in sizes] * 40
            assert await asyncio.gather(*map(echo, bodies)) == bodies

    asyncio.run(main())
