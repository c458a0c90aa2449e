"""What endpoints raise: the status that a class asks for, and the way through middleware."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import pytest

from support.asking import ask
from support.services import serving_service, write_service

pytestmark = pytest.mark.e2e

SERVICE = """
from http import HTTPStatus
from starlette.middleware.cors import CORSMiddleware
from headrace import Overloaded, exceptions

class Teapot(exceptions.BentoMLException):
    error_code = HTTPStatus.IM_A_TEAPOT

RAISED = {
    "teapot": Teapot("short and stout"),
    "unprocessable": exceptions.UnprocessableEntity("not like this"),
    "missing": exceptions.NotFound("no such thing"),
    "busy": Overloaded("come back later"),
    "dependency": exceptions.MissingDependencyException("pip install it"),
    "bug": ValueError("the secret"),
    "end": SystemExit("the secret"),
    "stop": StopIteration("the secret"),
    "cancel": asyncio.CancelledError("the secret"),
}

def raising(kind):
    raise RAISED[kind]

svc = Service("raises")

@svc.api(input=Text(), output=Text())
async def fails(kind):
    return raising(kind)

@svc.api(input=Text(), output=Text(), route="/plain/")
def fails_plainly(kind):
    return raising(kind)

@svc.api(input=Text(), output=Text())
async def sets(text, ctx: Context):
    ctx.response.headers.append("X-Twice", "a")
    ctx.response.headers.append("X-Twice", "b")
    return ",".join(ctx.request.query_params.getlist("q"))
"""
GUARDED = """
class Turn:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def turned(message):
            if message.get("status") == 404:
                message["status"] = 410
            await send(message)

        await self.app(scope, receive, turned)

ORIGINS = {"allow_origins": ["https://example.org"], "allow_methods": ["POST"]}
svc.add_asgi_middleware(CORSMiddleware, **ORIGINS)
svc.add_asgi_middleware(Turn)
"""
ORIGIN = {"Origin": "https://example.org", "Content-Type": "text/plain"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        file = write_service(tmp_path_factory.mktemp("plain"), patch, SERVICE)
        with serving_service(file) as server:
            yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        file = write_service(tmp_path_factory.mktemp("guarded"), patch, SERVICE + GUARDED)
        with serving_service(file) as server:
            yield server


CASES = [
    ("teapot", 418, "internal", "short and stout"),
    ("unprocessable", 422, "invalid_argument", "not like this"),
    ("missing", 404, "not_found", "no such thing"),
    ("busy", 503, "overloaded", "come back later"),
    ("dependency", 500, "model_error", "pip install it"),
    ("bug", 500, "model_error", "the server's log has the details"),
    ("end", 500, "model_error", "the server's log has the details"),
    ("stop", 500, "model_error", "the server's log has the details"),
]
# Its caller has not left. It does not pass middlewares as an answer, as they may have cancelled.
CANCELLED = ("cancel", 500, "model_error", "the server's log has the details")


@pytest.mark.parametrize("path", ["/fails", "/plain"])
@pytest.mark.parametrize(("kind", "status", "code", "words"), [*CASES, CANCELLED])
def test_an_error_has_the_status_of_its_class(plain, path, kind, status, code, words):
    answer = ask(plain.http, "POST", path, kind.encode(), {"Content-Type": "text/plain"})

    assert (answer.status, answer.json["code"]) == (status, code)
    assert words in answer.json["error"]
    assert "secret" not in answer.json["error"]
    assert answer.headers.get("retry-after") == ("1" if kind == "busy" else None)


@pytest.mark.parametrize("path", ["/fails", "/plain"])
@pytest.mark.parametrize(("kind", "status", "code", "words"), CASES)
def test_middleware_sees_an_error_as_the_answer_that_it_is(
    guarded, path, kind, status, code, words
):
    answer = ask(guarded.http, "POST", path, kind.encode(), ORIGIN)

    assert answer.headers["access-control-allow-origin"] == "https://example.org"
    assert answer.status == (410 if status == 404 else status)
    assert answer.json["code"] == code
    assert words in answer.json["error"]


def test_an_endpoint_that_is_cancelled_behind_middleware_has_failed(guarded):
    answer = ask(guarded.http, "POST", "/fails", b"cancel", ORIGIN)

    assert (answer.status, answer.json["code"]) == (500, "model_error")


def test_input_that_is_refused_passes_the_middleware_too(guarded):
    answer = ask(guarded.http, "POST", "/fails", b"\xff", ORIGIN)

    assert (answer.status, answer.json["code"]) == (400, "invalid_argument")
    assert "access-control-allow-origin" in answer.headers


def test_an_error_behind_middleware_is_counted_as_a_failure(guarded):
    ask(guarded.http, "POST", "/fails", b"teapot", ORIGIN)

    lines = ask(guarded.http, "GET", "/metrics").body.decode().splitlines()
    failed = [line for line in lines if line.startswith("model_infer_request_failure_total")]
    assert any('model="raises"' in line and 'code="internal"' in line for line in failed)


@pytest.mark.parametrize("path", ["/fails", "/fails/"])
def test_middleware_answers_preflight_requests(guarded, plain, path):
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}

    answer = ask(guarded.http, "OPTIONS", path, headers=asked)
    assert (answer.status, answer.body) == (200, b"OK")
    assert answer.headers["access-control-allow-origin"] == "https://example.org"
    assert ask(guarded.http, "OPTIONS", path).status == 405
    assert ask(plain.http, "OPTIONS", path, headers=asked).status == 405


@pytest.mark.parametrize("path", ["/fails", "/fails/", "/plain", "/plain/"])
def test_a_path_is_served_with_a_slash_at_its_end_as_well(plain, path):
    assert ask(plain.http, "POST", path, b"teapot", {"Content-Type": "text/plain"}).status == 418


def test_a_path_is_listed_once(plain):
    paths = ask(plain.http, "GET", "/openapi.json").json["paths"]

    assert {"/fails", "/plain"} <= paths.keys()
    assert not {"/fails/", "/plain/"} & paths.keys()


@pytest.mark.parametrize("name", ["plain", "guarded"])
def test_a_field_may_be_sent_twice_and_a_parameter_be_read_twice(name, request):
    server = request.getfixturevalue(name)
    parts = urlsplit(server.http)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)

    connection.request("POST", "/sets?q=1&q=2", b"", {"Content-Type": "text/plain"})
    response = connection.getresponse()
    body = response.read()
    connection.close()

    assert (response.msg.get_all("x-twice"), body) == (["a", "b"], b"1,2")
