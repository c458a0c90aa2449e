"""One connection over a real socket: deadlines, caps and errors below the application."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from raw_http import CHUNKED, GET, POST, answer, refused, serve, until

from headrace.errors import Cancelled
from headrace.http.body import SOURCE, read_body
from headrace.http.header_fields import collect


def test_a_slow_head_is_answered_408():
    message = refused(GET[:-2], 408, header_timeout=0.2)
    assert message == "the request head did not arrive within 0.2 s"


def test_a_slow_first_line_is_answered_408_for_the_part_of_the_path_that_arrived():
    refused(b"GET /v2/mod", 408, path="/v2/mod", header_timeout=0.2)


def test_a_head_that_trickles_is_answered_408():
    async def scenario(_listener, connect):
        client = await connect()
        reading = asyncio.ensure_future(client.read_answer())
        for byte in GET[:-2] * 1000:
            client.writer.write(bytes([byte]))
            done, _ = await asyncio.wait([reading], timeout=0.02)
            if done:
                break
        assert (await reading)[0] == 408

    serve(scenario, header_timeout=0.2)


def test_a_slow_head_on_a_used_connection_is_answered_408():
    async def scenario(_listener, connect):
        client = await connect()
        assert (await client.ask(GET))[0] == 200
        assert (await client.ask(GET[:-2]))[0] == 408

    serve(scenario, header_timeout=0.2)


@pytest.mark.parametrize(
    "start", [b"Content-Length: 9\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"]
)
def test_a_slow_body_is_answered_408(start):
    message = refused(POST + start, 408, body_timeout=0.2)
    assert message == "the request body did not arrive within 0.2 s"


def test_a_silent_connection_is_closed_without_an_answer():
    async def scenario(_listener, connect):
        assert await (await connect()).is_closed()

    serve(scenario, header_timeout=0.2)


def test_an_idle_connection_is_closed_without_an_answer():
    async def scenario(_listener, connect):
        client = await connect()
        assert (await client.ask(GET))[0] == 200
        assert await client.is_closed()

    serve(scenario, keep_alive_timeout=0.2)


def test_a_body_refused_before_the_application_reads_it_does_not_fail_the_application():
    ended = []

    async def app(scope, receive, send):
        try:
            ended.append(await receive())
        except RuntimeError as error:
            ended.append(error)

    async def scenario(_listener, connect):
        client = await connect()
        head = POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert (await client.ask(head + b"no size\r\n"))[0] == 400
        await until(lambda: ended)

    serve(scenario, app)

    assert ended == [{"type": "http.disconnect"}]


@pytest.mark.parametrize("size", [999, 1000, 1001, 300_000])
def test_a_body_in_many_parts_is_read_whole_up_to_the_limit(size):
    sent = bytes(index % 251 for index in range(size))

    async def scenario(_listener, connect):
        client = await connect()
        await client.send(CHUNKED)
        for start in range(0, size, 300):
            part = sent[start : start + 300]
            await client.send(b"%x\r\n%b\r\n" % (len(part), part))
        status, _, body = await client.ask(b"0\r\n\r\n")
        assert (status, body) == ((200, b"/v2 " + sent) if size <= 1000 else (413, b"too large"))

    serve(scenario)


def test_a_client_that_leaves_in_its_body_is_noticed():
    ended = []

    async def app(scope, receive, send):
        try:
            await read_body(collect(scope["headers"]), receive, 1000, scope[SOURCE])
        except Cancelled as error:
            ended.append(error.message)

    async def scenario(_listener, connect):
        client = await connect()
        await client.send(POST + b"Content-Length: 900\r\n\r\n" + bytes(300))
        client.writer.close()
        await until(lambda: ended)

    serve(scenario, app)

    assert ended == ["the client left before the end of its request"]


def test_a_slow_application_outlives_every_deadline():
    async def app(scope, receive, send):
        await receive()
        await asyncio.sleep(0.5)
        await answer(send, 200, b"late")

    async def scenario(_listener, connect):
        assert (await (await connect()).ask(GET))[2] == b"late"

    serve(scenario, app, header_timeout=0.1, body_timeout=0.1, keep_alive_timeout=0.1)


def test_a_client_that_never_reads_its_answer_is_disconnected():
    async def app(scope, receive, send):
        await answer(send, 200, bytes(30_000_000))

    async def scenario(listener, connect):
        client = await connect()
        client.writer.transport.pause_reading()
        await client.send(GET)
        await until(lambda: listener.connections)
        await until(lambda: not listener.connections)

    serve(scenario, app, body_timeout=0.2, keep_alive_timeout=0.2)


@pytest.mark.parametrize(
    "head",
    [
        GET[:-2] + b"X: " + b"a" * 2000 + b"\r\n\r\n",
        GET[:-2] + b"X: " + b"a" * 2000,
        b"GET /" + b"a" * 2000,
        GET[:-2] + b"X: 1\r\n" * 101 + b"\r\n",
        GET[:-2] + b"X: 1\r\n" * 101,
    ],
    ids=["complete", "endless-field", "endless-url", "many-fields", "many-fields-unfinished"],
)
@pytest.mark.parametrize("size", [50, 100_000], ids=["pieces", "whole"])
def test_a_large_head_is_answered_431(head, size):
    async def scenario(_listener, connect):
        client = await connect()
        reading = asyncio.ensure_future(client.read_answer())
        # With TLS, asyncio's clients stop sending as soon as they know that the server does.
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(head), size):
                await client.send(head[start : start + size])
                await asyncio.sleep(0)
            # What never ends must be refused for its size, long before the deadline.
            if not head.endswith(b"\r\n\r\n"):
                await client.send(b"b" * 2000)
        assert (await reading)[0] == 431
        assert await client.is_closed()

    serve(scenario, max_header_size=1000)


def test_a_small_head_before_a_large_body_in_one_segment_is_accepted():
    async def scenario(_listener, connect):
        request = POST + b"Content-Length: 900\r\n\r\n" + b"x" * 900
        assert (await (await connect()).ask(request))[0] == 200

    serve(scenario, max_header_size=200)


@pytest.mark.parametrize(
    "start", [CHUNKED + b"1;ext=", CHUNKED + b"0\r\nTrailer: "], ids=["extension", "trailer"]
)
def test_endless_chunk_extensions_and_trailers_are_answered_431(start):
    async def scenario(_listener, connect):
        client = await connect()
        reading = asyncio.ensure_future(client.read_answer())
        await client.send(start)
        while not reading.done():
            await client.send(b"a" * 100)
            await asyncio.sleep(0)
        assert (await reading)[0] == 431

    serve(scenario, max_header_size=1000)


def test_trailers_do_not_reach_the_application():
    async def app(scope, receive, send):
        await read_body(collect(scope["headers"]), receive, 100)
        await answer(send, 200, repr(scope["headers"]).encode())

    async def scenario(_listener, connect):
        _, _, body = await (await connect()).ask(CHUNKED + b"0\r\nX-Forged: 1\r\n\r\n")
        assert b"forged" not in body.lower()

    serve(scenario, app)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"nonsense\r\n\r\n", ""),
        (b"\x16\x03\x01\x02\x00\x01\x00", ""),
        (b"GET /v2 HTTP/2.0\r\nHost: x\r\n\r\n", "/v2"),
        (b"GET /v2 HTTP/0.9\r\nHost: x\r\n\r\n", "/v2"),
        (b"CONNECT host:1 HTTP/1.1\r\nHost: x\r\n\r\n", "host:1"),
        (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "/v2"),
        (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "/v2"),
        (POST + b"Content-Length: 5, 5\r\n\r\nhello", "/v2"),
        (POST + b"Content-Length: -1\r\n\r\n", "/v2"),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "/v2"),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "/v2"),
        (b"POST /v2 HTTP/1.0\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "/v2"),
        (POST + b"X: a\r\n folded\r\n\r\n", "/v2"),
        (POST + b"X: a\nY: b\r\n\r\n", "/v2"),
        (POST + b"X : a\r\n\r\n", "/v2"),
        (POST + b"X: a\x00b\r\n\r\n", "/v2"),
        (CHUNKED + b"zz\r\n", "/v2"),
    ],
)
def test_malformed_http_is_answered_400(data, path):
    assert refused(data, 400, path).startswith("malformed HTTP request: ")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v2 HTTP/1.1\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nhost: y\r\n\r\nhi",
        b"GET /v2 HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
    ],
)
def test_a_request_without_a_host_or_with_two_is_answered_400(head):
    assert "expected one Host field, got" in refused(head, 400)


def test_http_1_0_needs_no_host():
    async def scenario(_listener, connect):
        assert (await (await connect()).ask(b"GET /v2 HTTP/1.0\r\n\r\n"))[0] == 200

    serve(scenario)


def test_an_encoded_slash_divides_no_segments():
    async def scenario(_listener, connect):
        client = await connect()
        for target, path in ((b"/v2%2Fa%2fb", b"/v2%2Fa%2Fb"), (b"/a%20b%2F%41", b"/a b%2FA")):
            _, _, body = await client.ask(GET.replace(b"/v2", target))
            assert body.startswith(path + b" ")

    serve(scenario)


def test_a_transfer_encoding_other_than_chunked_is_answered_501():
    refused(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501)


def test_shutting_down_closes_idle_connections_and_finishes_busy_ones():
    proceed = asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            await proceed.wait()
        await answer(send, 200, b"done")

    async def scenario(listener, connect):
        idle, busy = await connect(), await connect()
        await idle.ask(GET)
        await busy.send(GET.replace(b"/v2", b"/slow"))
        await until(listener.in_flight)
        listener.close_listeners()
        await listener.shut_down_connections()
        assert await idle.is_closed()
        proceed.set()
        _, headers, body = await busy.read_answer()
        assert (headers["connection"], body) == ("close", b"done")
        assert await busy.is_closed()
        assert not listener.in_flight()
        with pytest.raises(ConnectionError):
            await connect()

    serve(scenario, app)


def test_an_answer_of_unknown_length_has_no_chunks_over_http_1_0():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first ", "more_body": True})
        await send({"type": "http.response.body", "body": b"last"})

    answers = []

    async def scenario(_listener, connect):
        client = await connect()
        await client.send(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
        answers.append(await client.reader.read())

    serve(scenario, app)

    head, _, body = answers[0].partition(b"\r\n\r\n")
    assert body == b"first last"
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
