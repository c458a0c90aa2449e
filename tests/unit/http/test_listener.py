"""The listener over real sockets: requests, bodies, disconnects, draining, binding."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from raw_http import CHUNKED, GET, POST, serve, until

from headrace.errors import Cancelled, ConfigurationError
from headrace.http.body import read_body
from headrace.http.header_fields import collect
from headrace.sockets import bind

# With TLS, the cap is for handshakes too, and asyncio's clients cannot close one direction; see
# tests/unit/tls.
TCP_ONLY = pytest.mark.parametrize("over", ["TCP"], indirect=True)


def test_requests_follow_each_other_on_one_connection():
    async def scenario(_listener, connect):
        client = await connect()
        for number in (b"1", b"2"):
            request = POST + b"Content-Length: 1\r\n\r\n" + number
            assert (await client.ask(request))[2] == b"/v2 " + number

    serve(scenario)


def test_deadlines_are_met_while_all_threads_are_busy():
    async def scenario(listener, connect):
        free = threading.Event()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        loop.run_in_executor(None, free.wait, 30)
        try:
            # So that memory is to be given back, which is done in a thread.
            listener._state.budget._peak = 2**30
            await until(lambda: listener._state.budget._peak == 0)
            assert (await (await connect()).ask(GET[:-2]))[0] == 408
        finally:
            free.set()

    serve(scenario, header_timeout=0.2)


def test_a_connection_that_fails_at_its_deadline_ends_no_other_deadline():
    async def scenario(listener, connect):
        failing = await connect()
        await failing.send(GET[:-2])
        await until(lambda: listener.connections)
        (connection,) = listener.connections
        connection.expire = None
        assert await failing.reader.read() == b""
        assert (await (await connect()).ask(GET[:-2]))[0] == 408

    serve(scenario, header_timeout=0.2)


def test_an_error_on_a_pipelined_request_follows_the_answer_owed_before_it():
    async def scenario(_listener, connect):
        client = await connect()
        await client.send(GET + b"nonsense\r\n\r\n")
        assert [(await client.read_answer())[0] for _ in range(2)] == [200, 400]
        assert await client.is_closed()

    serve(scenario)


def test_pipelined_requests_are_answered_in_order_up_to_a_cap():
    async def scenario(_listener, connect):
        client = await connect()
        await client.send(b"".join(GET.replace(b"/v2", b"/%d" % n) for n in range(50)))
        answers = [await client.read_answer() for _ in range(34)]
        assert [body for _, _, body in answers[:33]] == [b"/%d " % n for n in range(33)]
        assert answers[33][0] == 503

    serve(scenario)


def test_an_upgrade_offer_is_ignored_and_its_body_is_read():
    offer = POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc"

    async def scenario(_listener, connect):
        client = await connect()
        await client.send(offer + GET)
        assert (await client.read_answer())[2] == b"/v2 abc"
        assert (await client.read_answer())[2] == b"/v2 "
        assert (await client.ask(offer))[2] == b"/v2 abc"

    serve(scenario)


def test_a_request_refused_after_an_upgrade_offer_gets_its_own_answer():
    offer = POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc"

    async def scenario(_listener, connect):
        client = await connect()
        assert (await client.ask(offer + GET.replace(b"HTTP/1.1", b"HTTP/2.0")))[0] == 200
        status, _, body = await client.read_answer()
        assert status == 400
        assert b"expected HTTP/1.1 or HTTP/1.0" in body

    serve(scenario)


@TCP_ONLY
def test_over_the_connection_cap_is_answered_503_at_once():
    async def scenario(listener, connect):
        first = await connect()
        await first.send(GET[:-2])
        await until(listener.in_flight)
        second = await connect()
        status, headers, _ = await second.read_answer()
        assert (status, headers["retry-after"]) == (503, "1")
        assert await second.is_closed()
        assert (await first.ask(GET[-2:]))[0] == 200

    serve(scenario, max_connections=1)


def test_an_idle_connection_makes_way_for_another():
    async def scenario(_listener, connect):
        first = await connect()
        assert (await first.ask(GET))[0] == 200
        second = await connect()
        assert (await second.ask(GET))[0] == 200
        assert await first.is_closed()

    serve(scenario, max_connections=1)


def test_the_application_learns_that_the_client_left():
    left = asyncio.Event()

    async def app(scope, receive, send):
        await read_body(collect(scope["headers"]), receive, 1_000_000)
        scope["headrace.connection"].on_disconnect = left.set
        await left.wait()

    async def scenario(listener, connect):
        client = await connect()
        # Larger than the mark at which the protocol stops reading.
        await client.send(POST + b"Content-Length: 300000\r\n\r\n" + bytes(300_000))
        await until(lambda: any(c.on_disconnect for c in listener.connections))
        client.writer.transport.abort()
        await left.wait()
        await until(lambda: not listener.in_flight())

    serve(scenario, app)


def test_a_client_that_sends_all_of_a_large_body_first_gets_its_413():
    async def scenario(_listener, connect):
        client = await connect()
        client.writer.transport.pause_reading()
        await client.send(POST + b"Content-Length: 20000000\r\n\r\n" + bytes(20_000_000))
        client.writer.transport.resume_reading()
        assert (await client.read_answer())[0] == 413
        assert await client.is_closed()

    serve(scenario)


def test_a_client_that_expects_100_continue_gets_its_413_instead():
    async def scenario(_listener, connect):
        head = POST + b"Expect: 100-continue\r\nContent-Length: 2000\r\n\r\n"
        assert (await (await connect()).ask(head))[0] == 413

    serve(scenario)


def test_a_client_that_expects_100_continue_gets_it():
    async def scenario(_listener, connect):
        client = await connect()
        await client.send(POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await client.ask(b"abc"))[2] == b"/v2 abc"

    serve(scenario)


def test_a_chunked_body_over_the_limit_gets_its_413():
    async def scenario(_listener, connect):
        client = await connect()
        await client.send(CHUNKED + b"190\r\n" + b"x" * 400 + b"\r\n258\r\n" + b"x" * 600 + b"\r\n")
        status, _, _ = await client.ask(b"1\r\nx\r\n0\r\n\r\n")
        assert status == 413

    serve(scenario)


def test_a_gzip_bomb_gets_its_413():
    bomb = gzip.compress(bytes(900_000))

    async def scenario(_listener, connect):
        head = POST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
        assert (await (await connect()).ask(head + bomb))[0] == 413

    serve(scenario)


@TCP_ONLY
def test_a_body_shorter_than_its_content_length_is_a_client_that_left():
    cancelled = asyncio.Event()

    async def app(scope, receive, send):
        with contextlib.suppress(Cancelled):
            await read_body(collect(scope["headers"]), receive, 1000)
            raise AssertionError
        cancelled.set()

    async def scenario(listener, connect):
        client = await connect()
        await client.send(POST + b"Content-Length: 9\r\n\r\nabc")
        await until(listener.in_flight)
        client.writer.write_eof()
        await cancelled.wait()
        assert await client.is_closed()

    serve(scenario, app)


def test_a_body_longer_than_its_content_length_is_read_as_a_malformed_request():
    async def scenario(_listener, connect):
        client = await connect()
        await client.send(POST + b"Content-Length: 3\r\n\r\nabcdef\r\n\r\n")
        assert (await client.read_answer())[2] == b"/v2 abc"
        assert (await client.read_answer())[0] == 400

    serve(scenario)


def test_a_request_half_received_at_shutdown_is_still_answered():
    async def scenario(listener, connect):
        client = await connect()
        await client.ask(GET)
        await client.send(GET[:10])
        await until(lambda: any(c._receiving for c in listener.connections))
        await listener.shut_down_connections()
        # Who drains the server waits for these.
        assert listener.in_flight()
        status, headers, _ = await client.ask(GET[10:])
        assert (status, headers["connection"]) == (200, "close")
        assert not listener.in_flight()

    serve(scenario)


@pytest.mark.parametrize("rest", [b"\r\n" + GET, b"no field\r\n\r\n"])
def test_a_request_that_has_begun_to_arrive_is_in_flight_until_it_has(rest):
    async def scenario(listener, connect):
        client = await connect()
        await client.send(GET[:-2])
        await until(listener.in_flight)
        await client.send(rest)
        await client.read_answer()
        await until(lambda: not listener.in_flight())

    serve(scenario)


def test_a_client_that_leaves_within_a_head_is_not_waited_for():
    async def scenario(listener, connect):
        client = await connect()
        await client.send(GET[:-2])
        await until(listener.in_flight)
        client.writer.close()
        await until(lambda: not listener.in_flight())

    serve(scenario)


def test_announcing_the_close_reaches_every_answer():
    async def scenario(listener, connect):
        client = await connect()
        assert "connection" not in (await client.ask(GET))[1]
        listener.announce_close = True
        assert (await client.ask(GET))[1]["connection"] == "close"
        assert await client.is_closed()
        assert (await (await connect()).ask(GET))[0] == 200

    serve(scenario)


def test_a_taken_port_is_named():
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1 port {port}: address already"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 1), ("127.0.0.1", 70_000)])
def test_an_unusable_address_is_a_configuration_error(host, port):
    with pytest.raises(ConfigurationError, match=f"cannot listen on {host} port {port}"):
        bind(host, port)


def test_an_ipv6_address_is_bound():
    with bind("::1", 0) as sock:
        assert sock.family == socket.AF_INET6
