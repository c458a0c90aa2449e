"""A WSGI application as an ASGI one."""

from __future__ import annotations

import asyncio
import threading

import pytest

from headrace.errors import Cancelled
from headrace.services.wsgi_app import WsgiApp

# Ends a hang; no test takes as long.
FAR = 20


def scope(**changed):
    found = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/sub/é",
        "root_path": "/sub",
        "query_string": b"q=1",
        "headers": [(b"host", b"example.com:81"), (b"x-two", b"a"), (b"x-two", b"b")],
        "client": ("1.2.3.4", 5),
    }
    return {**found, **changed}


def answer(app, body=b"", **changed):
    """The messages that an application sends for a request."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(WsgiApp(app)(scope(**changed), receive, send))
    return sent


def environ_of(**changed):
    seen = {}

    def app(environ, start_response):
        seen.update(environ)
        start_response("200 OK", [])
        return []

    answer(app, **changed)
    return seen


def test_the_environment_is_that_of_the_request():
    found = environ_of(body=b"abc")

    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/sub", "/é".encode().decode("latin-1"))
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("example.com", "81")
    assert (found["REMOTE_ADDR"], found["QUERY_STRING"]) == ("1.2.3.4", "q=1")
    assert (found["HTTP_X_TWO"], found["CONTENT_LENGTH"]) == ("a,b", "3")
    assert found["wsgi.input"].read() == b"abc"


@pytest.mark.parametrize(
    ("scheme", "headers", "expected"),
    [
        ("http", [], ("localhost", "80")),
        ("https", [(b"host", b"a.b")], ("a.b", "443")),
        ("http", [(b"host", b"[::1]:8080")], ("[::1]", "8080")),
    ],
)
def test_the_server_is_that_of_the_host_header(scheme, headers, expected):
    found = environ_of(scheme=scheme, headers=headers)

    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == expected


def test_pieces_are_sent_as_they_are_yielded_and_the_iterable_is_closed():
    closed = []

    class Pieces(list):
        def close(self):
            closed.append(True)

    def app(environ, start_response):
        write = start_response("201 Created", [("X-Own", "yes"), ("Set-Cookie", "a=1")])
        write(b"first")
        return Pieces([b"second", b"", b"third"])

    head, *bodies = answer(app)

    assert (head["status"], head["headers"][0]) == (201, (b"X-Own", b"yes"))
    assert [(each["body"], each["more_body"]) for each in bodies] == [
        (b"first", True),
        (b"second", True),
        (b"third", True),
        (b"", False),
    ]
    assert closed == [True]


def test_a_generator_may_start_its_answer_when_it_runs():
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"a"

    assert [each.get("body") for each in answer(app)] == [None, b"a", b""]


def test_a_caller_who_leaves_ends_a_send_that_would_wait_forever():
    ended = threading.Event()

    def app(environ, start_response):
        try:
            start_response("200 OK", [])
            yield b"x"
        finally:
            ended.set()

    async def leave():
        sending, taken = asyncio.Event(), asyncio.Event()

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sending.set()
            await taken.wait()

        request = asyncio.ensure_future(WsgiApp(app)(scope(), receive, send))
        await sending.wait()
        request.cancel()
        await asyncio.wait([request])
        try:
            return await asyncio.get_running_loop().run_in_executor(None, ended.wait, 30)
        finally:
            # Or a thread that waits would hold up the end of the loop.
            taken.set()

    assert asyncio.run(leave())


def test_an_error_page_replaces_a_head_that_was_not_sent():
    def app(environ, start_response):
        start_response("200 OK", [])
        try:
            raise ValueError("late")
        except ValueError as error:
            start_response("500 Oops", [], (type(error), error, error.__traceback__))
        return [b"page"]

    assert answer(app)[0]["status"] == 500


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (lambda environ, start_response: [b"x"], "did not call start_response"),
        (
            lambda environ, start_response: [
                start_response("200 OK", []),
                start_response("200 OK", []),
            ],
            "called twice",
        ),
    ],
)
def test_an_application_that_breaks_the_rules_fails(app, words):
    with pytest.raises(RuntimeError, match=words):
        answer(app)


def test_a_body_that_does_not_end_is_not_answered():
    messages = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive():
        return messages.pop(0)

    with pytest.raises(Cancelled):
        asyncio.run(WsgiApp(None)(scope(), receive, None))


def test_an_application_of_requests_has_no_lifespan():
    with pytest.raises(NotImplementedError):
        asyncio.run(WsgiApp(None)({"type": "lifespan"}, None, None))


def test_a_field_with_an_underscore_is_not_taken_for_one_with_a_hyphen():
    fields = [(b"x-forwarded-for", b"proxy"), (b"x_forwarded_for", b"client")]
    found = environ_of(headers=[*fields, (b"content_type", b"client")])

    assert found["HTTP_X_FORWARDED_FOR"] == "proxy"
    assert "CONTENT_TYPE" not in found


def test_a_caller_who_leaves_while_there_is_no_room_frees_the_thread():
    ended = threading.Event()

    def app(environ, start_response):
        start_response("200 OK", [])
        try:
            while True:
                yield b"piece"
        finally:
            ended.set()

    async def run():
        is_full = asyncio.Event()

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            if message["type"] == "http.response.body":
                is_full.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(WsgiApp(app)(scope(), receive, send))
        await is_full.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, FAR)

    asyncio.run(run())

    assert ended.is_set()
