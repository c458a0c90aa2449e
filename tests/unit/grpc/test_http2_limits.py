"""What one caller may make the server hold, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import gzip

import pytest

from headrace.grpc import http2_frames as frames
from headrace.grpc.http2_connection import MAX_STREAMS
from headrace.grpc.http2_frames import Fault
from headrace.grpc.http2_server import Http2Server
from support.http2_client import Http2Client, begin, call, data, message
from support.http2_servers import ECHO, STREAM, WAIT, port_of, run, serving

# With TLS, the bound is for handshakes too; see tests/unit/tls.
TCP_ONLY = pytest.mark.parametrize("over", ["TCP"], indirect=True)

RESOURCE_EXHAUSTED, UNAVAILABLE, DEADLINE_EXCEEDED = 8, 14, 4
GZIP = (b"grpc-encoding", b"gzip")


def test_a_message_over_the_limit_is_refused_before_it_arrives() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(begin(1, ECHO), data(1, message(b"", size=2**31)))
        code, details = await client.status(1)

        assert code == RESOURCE_EXHAUSTED
        assert "--max-body-size" in details
        client.send(call(3, ECHO, b"small"))
        assert await client.status(3) == (0, "")

    run(scenario, max_body_size=1000)


def test_a_compressed_message_is_unpacked_up_to_the_limit() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        bomb = gzip.compress(bytes(10_000_000))
        assert len(bomb) < 16_000
        zipped = data(1, message(bomb, compressed=1), frames.END_STREAM)
        client.send(begin(1, ECHO, GZIP), zipped)
        code, details = await client.status(1)

        assert code == RESOURCE_EXHAUSTED
        assert "unpacked" in details

    run(scenario, max_body_size=100_000)


def test_unfinished_messages_are_bounded_together() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        part = message(bytes(10_000), size=50_000)
        for number in (1, 3, 5):
            client.send(begin(number, ECHO), data(number, part))
        code, details = await client.status(5)

        assert code == UNAVAILABLE
        assert "--max-receive-bytes" in details
        assert server.reception.held == 20_000
        client.send(data(1, bytes(0)), frames.reset(1, Fault.CANCEL), data(3, bytes(0)))
        client.send(call(7, ECHO, b"x"))
        assert await client.status(7) == (0, "")
        assert server.reception.held == 10_000

    run(scenario, max_receive_bytes=25_000)


def test_messages_that_a_stream_has_not_read_are_bounded() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(begin(1, STREAM), data(1, message(bytes(60_000))[:16_384]))
        for start in range(16_384, 60_005, 16_384):
            client.send(data(1, message(bytes(60_000))[start : start + 16_384]))
        # The window is used up, and the server allows no more before the stream has taken this.
        client.send(data(1, bytes(16_384)))
        code, _ = await client.status(1)

        assert code == 13

    run(scenario)


def test_a_message_must_arrive_in_time() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(begin(1, ECHO), data(1, message(b"begins", size=100)))
        client.send(begin(3, STREAM), data(3, message(b"begins", size=100)))
        client.send(begin(5, ECHO))

        for number in (1, 3, 5):
            code, details = await client.status(number)
            assert code == DEADLINE_EXCEEDED
            assert "--body-timeout" in details

    run(scenario, body_timeout=0.05)


def test_an_idle_stream_is_left_alone() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(begin(1, STREAM), data(1, message(b"one")))
        assert (await client.next(frames.DATA, 1)).payload == message(b"one")
        client.send(begin(3, ECHO))
        # By the time this one is overdue, the stream would be.
        assert (await client.status(3))[0] == DEADLINE_EXCEEDED
        client.send(data(1, message(b"two"), frames.END_STREAM))
        assert (await client.next(frames.DATA, 1)).payload == message(b"two")

    run(scenario, body_timeout=0.05)


def test_calls_on_one_connection_are_bounded() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        for number in range(1, 2 * MAX_STREAMS + 2, 2):
            client.send(call(number, WAIT, b""))
        refused = await client.next(frames.RST_STREAM, 2 * MAX_STREAMS + 1)

        assert int.from_bytes(refused.payload) == Fault.REFUSED_STREAM
        assert len(server.tasks) == MAX_STREAMS

    run(scenario)


@TCP_ONLY
def test_connections_are_bounded() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(call(1, WAIT, b"x"))
        while not server.tasks:
            await asyncio.sleep(0)
        other = await Http2Client.connect(port_of(server))
        fault, details = await other.fault()
        await other.aclose()

        assert fault == Fault.ENHANCE_YOUR_CALM
        assert "--max-connections" in details

    run(scenario, max_connections=1)


def test_an_idle_connection_makes_way_for_another() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(call(1, ECHO, b"x"))
        assert await client.status(1) == (0, "")
        other = await Http2Client.connect(port_of(server))
        other.send(call(1, ECHO, b"x"))
        assert await other.status(1) == (0, "")
        await other.aclose()

        farewell = await client.next(frames.GOAWAY)
        assert farewell.payload[4:8] == bytes(4)
        assert b"--max-connections" in farewell.payload

    run(scenario, max_connections=1)


def test_an_old_connection_is_told_to_go_and_finishes_its_calls() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(begin(1, STREAM), data(1, message(b"one")))
        await client.next(frames.DATA, 1)
        await client.next(frames.GOAWAY)
        client.send(data(1, message(b"two"), frames.END_STREAM))
        assert (await client.next(frames.DATA, 1)).payload == message(b"two")
        assert await client.status(1) == (0, "")
        assert await client.rest() is not None

    run(scenario, grpc_connection_age=0.05)


def test_who_says_nothing_is_hung_up_on() -> None:
    async def main() -> None:
        async with serving(header_timeout=0.05) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(frames.PREFACE[:10])
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            writer.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_an_idle_connection_is_told_to_go() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(call(1, ECHO, b"x"))
        assert await client.status(1) == (0, "")
        farewell = await client.next(frames.GOAWAY)

        assert farewell.payload[4:8] == bytes(4)
        assert await client.rest() is not None

    run(scenario, keep_alive_timeout=0.05)


def test_metadata_over_the_limit_is_refused_and_the_connection_goes_on() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(begin(1, ECHO, (b"long", b"x" * 3000)), data(1, b"", frames.END_STREAM))
        code, details = await client.status(1)
        assert (code, "--max-header-size" in details) == (RESOURCE_EXHAUSTED, True)
        client.send(call(3, ECHO, b"x"))
        assert await client.status(3) == (0, "")

    run(scenario, max_header_size=1000)


def test_metadata_without_end_closes_the_connection() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(frames.frame(frames.HEADERS, 0, 1, b"\x00"))
        client.send(*[frames.frame(frames.CONTINUATION, 0, 1)] * 100)

        assert (await client.fault())[0] == Fault.ENHANCE_YOUR_CALM

    run(scenario)


def test_metadata_that_stops_in_the_middle_closes_the_connection() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(frames.frame(frames.HEADERS, 0, 1, b"\x00"))

        await client.rest()

    run(scenario, header_timeout=0.05)


def test_who_does_not_read_the_answer_loses_it() -> None:
    async def scenario(server: Http2Server, client: Http2Client) -> None:
        client.send(begin(1, ECHO))
        whole = message(bytes(100_000))
        client.send(data(1, whole[:16_384]))
        await client.next(frames.WINDOW_UPDATE, 1)
        for start in range(16_384, len(whole), 16_384):
            client.send(data(1, whole[start : start + 16_384]))
        client.send(data(1, b"", frames.END_STREAM))

        code, details = await client.status(1)
        assert (code, "does not read" in details) == (DEADLINE_EXCEEDED, True)

    run(scenario, body_timeout=0.2)
