"""Clients that shut down their sending side: those that read on are answered, others cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import pytest
import uvloop
from raw_http import CHUNKED, GET, POST, answer, echo, serve, until

from headrace.errors import Cancelled
from headrace.http import ending_connection
from headrace.http.body import read_body
from headrace.http.header_fields import collect

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def rest(client):
    """All that a client gets after it has shut down its sending side, without probes."""
    client.writer.write_eof()
    return (await client.reader.read()).replace(CONTINUE, b"")


@pytest.mark.parametrize(
    ("request_sent", "body"),
    [
        (GET, b"/v2 "),
        (POST + b"Content-Length: 3\r\n\r\nabc", b"/v2 abc"),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", b"/v2 abc"),
        (POST + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc", b"/v2 abc"),
    ],
)
def test_a_client_that_sends_nothing_more_gets_its_answer(request_sent, body):
    async def scenario(listener, connect):
        client = await connect()
        await client.send(request_sent)
        assert (await rest(client)).endswith(b"\r\n\r\n" + body)
        await until(lambda: not listener.connections)

    serve(scenario)


def test_pipelined_requests_are_all_answered_to_a_client_that_sends_nothing_more():
    async def scenario(_listener, connect):
        client = await connect()
        await client.send(b"".join(GET.replace(b"/v2", b"/%d" % n) for n in range(5)))
        found = await rest(client)
        assert [found.find(b"/%d " % n) > 0 for n in range(5)] == [True] * 5
        assert found.count(b"200 OK") == 5

    serve(scenario)


@pytest.mark.parametrize("begun", [GET[:9], POST, POST + b"Content-Length: 9\r\n\r\nabc"])
def test_what_is_cut_off_is_dropped_and_the_requests_before_it_are_answered(begun):
    started, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(scope, receive, send):
        started.set()
        await goes_on.wait()
        await echo(scope, receive, send)

    async def scenario(listener, connect):
        client = await connect()
        await client.send(GET)
        await started.wait()
        (connection,) = listener.connections
        await client.send(begun)
        await until(lambda: connection._receiving)
        client.writer.write_eof()
        # A request behind another is read no further until that is answered.
        goes_on.set()
        assert (await rest(client)).count(b"200 OK") == 1
        await until(lambda: not listener.connections)

    serve(scenario, slow)


@pytest.mark.parametrize("begun", [GET[:9], POST + b"Content-Length: 9\r\n\r\nabc"])
def test_a_request_that_is_cut_off_is_dropped(begun):
    async def scenario(listener, connect):
        client = await connect()
        await client.send(begun)
        assert await rest(client) == b""
        await until(lambda: not listener.in_flight())

    serve(scenario)


def test_an_old_client_that_sends_nothing_more_has_left():
    left = asyncio.Event()

    async def scenario(_listener, connect):
        client = await connect()
        await client.send(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
        client.writer.write_eof()
        await left.wait()
        assert await client.reader.read() == b""

    serve(scenario, leaving(left))


def leaving(left):
    """An application that waits until the client of its first request leaves."""

    async def app(scope, receive, send):
        with contextlib.suppress(Cancelled):
            await read_body(collect(scope["headers"]), receive, 1_000_000)
        scope["headrace.connection"].on_disconnect = left.set
        await left.wait()

    return app


def close(client):
    client.writer.close()


def reset(client):
    linger = struct.pack("ii", 1, 0)
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    client.writer.close()


def half_close_first(client):
    client.writer.write_eof()
    client.writer.close()


@pytest.mark.parametrize("leave", [close, reset, half_close_first])
@pytest.mark.parametrize("sent", [GET, POST + b"Content-Length: 3\r\n\r\nabc", GET * 4])
def test_a_client_that_leaves_is_noticed_before_its_answer(leave, sent):
    left = asyncio.Event()

    async def scenario(listener, connect):
        client = await connect()
        await client.send(sent)
        await until(lambda: any(each.on_disconnect for each in listener.connections))
        leave(client)
        await left.wait()
        await until(lambda: not listener.connections and not listener.in_flight())

    serve(scenario, leaving(left))


def test_a_client_that_leaves_long_after_it_has_sent_nothing_more_is_noticed():
    left = asyncio.Event()

    async def scenario(listener, connect):
        client = await connect()
        await client.send(GET)
        client.writer.write_eof()
        assert await client.reader.readexactly(len(CONTINUE)) == CONTINUE
        (connection,) = listener.connections
        reset(client)
        await left.wait()
        await until(lambda: not listener.connections)
        assert not connection._half_closed._transports

    serve(scenario, leaving(left))


def test_an_answer_that_has_begun_goes_on_without_a_probe():
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        begun.set()
        await goes_on.wait()
        await send({"type": "http.response.body", "body": b"two"})

    async def scenario(listener, connect):
        client = await connect()
        await client.send(GET)
        await begun.wait()
        client.writer.write_eof()
        await until(lambda: any(each._watched is not None for each in listener.connections))
        goes_on.set()
        found = await client.reader.read()
        assert found.endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
        assert CONTINUE not in found

    serve(scenario, app)


def test_a_client_that_leaves_in_the_middle_of_an_answer_is_noticed_without_more_of_it(monkeypatch):
    monkeypatch.setattr(ending_connection, "SILENT_SECONDS", 0.1)
    left = asyncio.Event()

    async def app(scope, receive, send):
        scope["headrace.connection"].on_disconnect = left.set
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await left.wait()

    async def scenario(listener, connect):
        client = await connect()
        await client.send(GET)
        await client.reader.readuntil(b"one")
        close(client)
        await left.wait()
        await until(lambda: not listener.connections)

    serve(scenario, app)


def test_a_client_that_takes_more_of_its_answer_has_not_left(monkeypatch):
    monkeypatch.setattr(ending_connection, "SILENT_SECONDS", 1.0)
    ended, goes_on = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await ended.wait()
        await send({"type": "http.response.body", "body": b"two", "more_body": True})
        await goes_on.wait()
        await send({"type": "http.response.body", "body": b"three"})

    async def scenario(listener, connect):
        client = await connect()
        await client.send(GET)
        await client.reader.readuntil(b"one")
        (connection,) = listener.connections
        client.writer.write_eof()
        await until(lambda: connection._watched is not None)
        ended.set()
        await client.reader.readuntil(b"two")
        await until(lambda: connection.deadline == ending_connection.NEVER)
        goes_on.set()
        assert (await client.reader.read()).endswith(b"three\r\n0\r\n\r\n")

    serve(scenario, app)


def test_a_refused_request_is_answered_after_those_before_it():
    async def scenario(_listener, connect):
        client = await connect()
        await client.send(GET + b"nonsense\r\n\r\n")
        found = await rest(client)
        assert [found.count(b" 200 OK"), found.count(b" 400 Bad Request")] == [1, 1]

    serve(scenario)


def test_answers_that_a_client_never_reads_are_dropped_after_a_time():
    async def app(scope, receive, send):
        await answer(send, 200, bytes(50_000_000))

    async def scenario(listener, connect):
        client = await connect()
        client.writer.transport.pause_reading()
        await client.send(GET)
        client.writer.write_eof()
        await until(lambda: not listener.connections)

    serve(scenario, app, body_timeout=0.2)


def test_who_reads_no_answers_on_a_connection_that_is_kept_is_cut_off():
    async def app(scope, receive, send):
        await answer(send, 200, bytes(50_000_000))

    async def scenario(listener, connect):
        client = await connect()
        client.writer.transport.pause_reading()
        await client.send(GET)
        await until(lambda: listener.connections)
        await until(lambda: not listener.connections)

    serve(scenario, app, body_timeout=0.2)


def test_who_reads_an_answer_late_keeps_the_connection():
    async def app(scope, receive, send):
        await answer(send, 200, bytes(50_000_000))

    async def scenario(listener, connect):
        client = await connect()
        client.writer.transport.pause_reading()
        await client.send(GET)
        await until(lambda: any(each.unsent for each in listener.connections))
        (connection,) = listener.connections
        client.writer.transport.resume_reading()
        assert len((await client.read_answer())[2]) == 50_000_000
        await until(lambda: connection.deadline > connection.loop.time() + 1000)

    serve(scenario, app, keep_alive_timeout=3000, body_timeout=5)


def test_all_of_this_holds_on_uvloop(monkeypatch):
    monkeypatch.setattr(asyncio, "run", uvloop.run)
    test_pipelined_requests_are_all_answered_to_a_client_that_sends_nothing_more()
    test_a_client_that_leaves_long_after_it_has_sent_nothing_more_is_noticed()
    test_an_answer_that_has_begun_goes_on_without_a_probe()
    for leave in (close, reset, half_close_first):
        test_a_client_that_leaves_is_noticed_before_its_answer(leave, GET)
