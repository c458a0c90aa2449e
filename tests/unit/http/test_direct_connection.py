"""Requests that are answered without a task, and heads that are parsed only once."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace

import pytest
from raw_http import GET, answer, serve, until

from headrace.adapters.adapter import JSON_HEADERS, Reply
from headrace.http.direct import REMEMBERED, Head, Heads

HEAD = b"POST /direct HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\r\nContent-Length: 3\r\n\r\n"


class App:
    """Answers `/direct` without a task, and shows what it was given; other paths with one."""

    def __init__(self, may_stream=False):
        self.inference = self
        self.route = SimpleNamespace(may_stream=may_stream)
        self.asked = []

    def match(self, path):
        return self if path == "/direct" else None

    def needs_task(self, match, body):
        return body == b"\x00\x00\x00"

    def direct(self, connection, match, headers, body, answer):
        scope = connection.scope
        self.asked.append((scope["path"], scope["client"], sorted(headers.items()), bytes(body)))
        answer(Reply(200, JSON_HEADERS, json.dumps(bytes(body).decode()).encode()), "id")

    async def __call__(self, scope, receive, send):
        self.asked.append((scope["path"], (await receive())["body"]))
        scope["headers"].clear()
        await answer(send, 200, b"by the application")


class Broken:
    def feed_data(self, data):
        raise AssertionError("it was parsed")


def test_a_head_that_was_parsed_once_is_not_parsed_again():
    app = App()

    async def scenario(listener, connect):
        first = await connect()
        assert (await first.ask(HEAD + b"abc"))[2] == b'"abc"'
        for connection in listener.connections:
            connection.parser = Broken()
        assert (await first.ask(HEAD + b"def"))[2] == b'"def"'

    serve(scenario, app)
    assert app.asked[0][:3] == app.asked[1][:3]


def test_a_head_is_known_on_every_connection_and_each_keeps_its_own_client():
    app = App()

    async def scenario(listener, connect):
        for body in (b"abc", b"def"):
            client = await connect()
            assert (await client.ask(HEAD + body))[2] == json.dumps(body.decode()).encode()

    serve(scenario, app)
    (path, client, fields, _), (other_path, other_client, other_fields, _) = app.asked
    assert (path, fields) == (other_path, other_fields)
    assert client != other_client


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + b"abc" + HEAD + b"def"],
        [HEAD, b"abc", HEAD + b"def"],
        [HEAD + b"ab", b"c" + HEAD + b"def"],
        [HEAD[:9], HEAD[9:] + b"abc", HEAD + b"d", b"ef"],
        [b"\r\n" + HEAD + b"abc", b"\r\n\r\n" + HEAD + b"def"],
        [HEAD + b"abc" + HEAD[:20], HEAD[20:] + b"def"],
        [HEAD + b"abc\r\n\r\n", HEAD + b"def"],
    ],
)
def test_a_known_head_is_read_alike_however_its_request_arrives(pieces):
    app = App()

    async def scenario(_listener, connect):
        client = await connect()
        assert (await client.ask(HEAD + b"xyz"))[2] == b'"xyz"'
        for piece in pieces:
            before = len(app.asked)
            await client.send(piece)
            if b"".join(pieces).startswith(HEAD) and piece.endswith(b"def"):
                await until(lambda count=before: len(app.asked) > count)
        assert (await client.read_answer())[2] == b'"abc"'
        assert (await client.read_answer())[2] == b'"def"'

    serve(scenario, app)


def test_a_body_that_looks_like_the_end_of_a_head_is_a_body():
    head = HEAD.replace(b": 3", b": 8")

    async def scenario(_listener, connect):
        client = await connect()
        for _ in range(3):
            assert (await client.ask(head + b"\r\n\r\n\r\n\r\n"))[
                2
            ] == b'"\\r\\n\\r\\n\\r\\n\\r\\n"'

    serve(scenario, App())


@pytest.mark.parametrize(
    "field",
    [b"Connection: close", b"Transfer-Encoding: chunked", b"Expect: 100-continue"],
)
def test_a_head_that_changes_how_its_request_is_read_is_parsed_each_time(field):
    plain = b"POST /direct HTTP/1.1\r\nHost: x\r\n"
    body = b"3\r\nabc\r\n0\r\n\r\n" if b"chunked" in field else b"abc"
    length = b"" if b"chunked" in field else b"Content-Length: 3\r\n"

    async def scenario(_listener, connect):
        for _ in range(2):
            client = await connect()
            await client.send(plain + length + field + b"\r\n\r\n" + body)
            if b"Expect" in field:
                assert (
                    await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                )
            assert (await client.read_answer())[0] == 200
            if b"close" in field:
                assert await client.is_closed()

    serve(scenario, App())


def test_a_known_head_waits_for_the_answers_before_it():
    app = App()

    async def scenario(_listener, connect):
        client = await connect()
        await client.ask(HEAD + b"abc")
        await client.send(GET)
        await client.send(HEAD + b"abc")
        assert (await client.read_answer())[2] == b"by the application"
        assert (await client.read_answer())[0] == 200

    serve(scenario, app)


class Later(App):
    """Answers when the test says so."""

    def direct(self, connection, match, headers, body, answer):
        self.asked.append(lambda: answer(Reply(200, JSON_HEADERS, b"{}"), "id"))


def test_a_slow_head_behind_a_known_one_is_answered_408():
    async def scenario(_listener, connect):
        assert (await (await connect()).ask(HEAD + b"abc"))[0] == 200
        client = await connect()
        assert (await client.ask(HEAD + b"abc"))[0] == 200
        assert (await client.ask(GET[:-2]))[0] == 408

    serve(scenario, App(), header_timeout=0.2)


def test_a_slow_head_behind_a_known_one_that_waits_for_its_answer_is_answered_408():
    app = Later()

    async def scenario(listener, connect):
        for number in (1, 2):
            client = await connect()
            await client.send(HEAD + b"abc")
            await until(lambda count=number: len(app.asked) == count)
            await client.send(GET[:-2])
            await until(lambda: any(each._receiving for each in listener.connections))
            app.asked[-1]()
            assert (await client.read_answer())[0] == 200
            assert (await client.read_answer())[0] == 408

    serve(scenario, app, header_timeout=0.2)


def test_a_known_head_after_a_connect_request_is_no_request():
    app = App()
    connect_request = b"CONNECT /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"

    async def scenario(_listener, connect):
        for body, rest in ((b"", HEAD + b"def"), (b"abc", b""), (b"abc" + HEAD + b"def", b"")):
            client = await connect()
            await client.ask(HEAD + b"abc")
            await client.send(connect_request % len(body) + body[:3])
            assert (await client.read_answer())[2] == b"by the application"
            with contextlib.suppress(ConnectionError):
                await client.send(body[3:] + rest + HEAD + b"ghi")
            # To another reader, all of it may have been the content of a tunnel.
            assert await client.is_closed()

    serve(scenario, app)
    assert [each[0] for each in app.asked] == ["/direct", "/x"] * 3


def test_a_task_that_changes_its_headers_changes_those_of_no_other_request():
    app = App(may_stream=True)

    async def scenario(_listener, connect):
        client = await connect()
        for body in (b"abc", b"\x00\x00\x00", b"abc", b"\x00\x00\x00"):
            assert (await client.ask(HEAD + body))[0] == 200

    serve(scenario, app)
    first, in_task, third, again = app.asked
    assert first == third
    assert in_task == again == ("/direct", b"\x00\x00\x00")


def scope(fields):
    shared = dict.fromkeys(("type", "asgi", "http_version", "root_path", "query_string"), "")
    return {**shared, "headers": fields, "method": "POST", "raw_path": b"/m", "path": "/m"}


def test_the_oldest_head_is_forgotten_when_there_are_too_many():
    heads = Heads()
    text = b"POST /m HTTP/1.1\r\nHost: %d\r\n\r\n"
    for number in range(REMEMBERED + 1):
        heads.remember(text % number, Head(scope([(b"host", b"x")]), {}, 0))
    assert heads.get(text % 0) is None
    assert heads.get(text % 1) is not None
    assert heads.get(text % REMEMBERED) is not None


@pytest.mark.parametrize(
    "text",
    [
        b"\r\nPOST /m HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /m HTTP/1.1\nHost: x\n\nbody\r\n\r\n",
        b"POST /m HTTP/1.1\r\nHost: x\r\nMore: x\r\n\r\n",
        b"POST /m HTTP/1.1\r\nHost: " + b"x" * 3000 + b"\r\n\r\n",
        b"",
    ],
    ids=["after a line break", "bare line feeds", "another field", "long", "unknown"],
)
def test_a_text_that_is_not_just_the_head_that_was_parsed_is_not_remembered(text):
    heads = Heads()
    heads.remember(text, Head(scope([(b"host", b"x")]), {}, 0))
    assert heads.get(text) is None
