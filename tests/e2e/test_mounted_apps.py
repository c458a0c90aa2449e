"""Mounted applications: their lifespan, what they stream, and those of WSGI."""

from __future__ import annotations

import gzip
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from support.asking import ask
from support.services import serving_service, write_service
from support.serving import starting, until

pytestmark = pytest.mark.e2e

SERVICE = """
from itertools import count
from contextlib import asynccontextmanager
import flask
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse

def note(what):
    (HERE / "notes").open("a").write(what + "\\n")

def may_go_on(number):
    return (HERE / f"open-{number}").exists() or (HERE / "open").exists()

@asynccontextmanager
async def lifespan(app):
    note("start")
    yield {"word": "kept"}
    note("stop")

fast = FastAPI(lifespan=lifespan)

@fast.get("/state")
async def state(request: Request):
    return [request.state.word, request.scope["root_path"]]

@fast.post("/echo")
async def echo(request: Request):
    body = await request.body()
    return [len(body), request.headers.get("content-encoding")]

@fast.get("/pieces")
async def pieces():
    async def each():
        try:
            for number in count():
                yield f"piece {number}\\n"
                note(f"taken {number}")
                while not may_go_on(number):
                    await asyncio.sleep(0.005)
        finally:
            note("ended")
    return StreamingResponse(each(), media_type="text/plain", headers={"x-own": "yes"})

@fast.get("/whole")
async def whole():
    return PlainTextResponse("x" * 20_000)

@fast.get("/waits")
async def waits():
    note("waits")
    while not may_go_on("all"):
        await asyncio.sleep(0.01)
    return "done"

@fast.get("/fails")
async def fails():
    async def each():
        yield "first"
        raise ValueError("secret")
    return StreamingResponse(each())

@fast.get("/large")
async def large():
    async def each():
        for _ in range(200):
            yield b"x" * 100_000
    return StreamingResponse(each())

flasked = flask.Flask("flasked")

@flasked.route("/about", methods=["GET", "POST", "PUT"])
def about():
    given = flask.request
    answer = flask.jsonify([given.method, given.script_root, given.path, given.args.get("q"),
                            given.get_data(as_text=True), given.headers.get("X-Own")])
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer

@flasked.get("/pieces")
def plain_pieces():
    def each():
        try:
            for number in count():
                yield f"piece {number}\\n"
                while not may_go_on(number):
                    time.sleep(0.005)
        finally:
            note("ended plainly")
    return flask.Response(each(), mimetype="text/plain")

@flasked.get("/broken")
def broken():
    raise ValueError("secret")

@flasked.get("/asks")
def asks():
    import numpy as np
    return flask.jsonify(doubler.predict.run(np.ones(2)).tolist())

async def bare(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("no lifespan here")
    await PlainTextResponse("bare")(scope, receive, send)

doubler = stored("doubler")
svc = Service("mounted", runners=[doubler])
svc.mount_asgi_app(fast, "/fast")
svc.mount_asgi_app(bare, "/bare")
svc.mount_wsgi_app(flasked, "/flask")
svc.on_startup(lambda: note("start hook"))
svc.on_shutdown(lambda: note("stop hook"))
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    return write_service(tmp_path, monkeypatch, SERVICE, {"doubler": "return x * 2"})


def notes(file):
    path = file.parent / "notes"
    return path.read_text().splitlines() if path.exists() else []


def begun(server, path, headers=()):
    """A response whose head has come, and whose body has not been read."""
    parts = urlsplit(server.http)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    connection.request("GET", path, headers=dict(headers))
    return connection, connection.getresponse()


def test_applications_start_before_the_first_request_and_stop_after_the_last(file):
    with serving_service(file) as server:
        assert notes(file) == ["start hook", "start"]
        assert ask(server.http, "GET", "/fast/state").json == ["kept", "/fast"]
        assert ask(server.http, "GET", "/bare").body == b"bare"

    assert notes(file) == ["start hook", "start", "stop", "stop hook"]


def test_an_application_that_cannot_start_keeps_its_service_from_being_ready(tmp_path, monkeypatch):
    source = """
    from contextlib import asynccontextmanager
    from starlette.applications import Starlette

    @asynccontextmanager
    async def lifespan(app):
        raise OSError("no database")
        yield

    svc = Service("s")
    svc.mount_asgi_app(Starlette(lifespan=lifespan), "/app")
    """
    file = write_service(tmp_path, monkeypatch, source)
    home = {"HEADRACE_HOME": str(tmp_path / "home")}
    with starting(f"{file}:svc", env=home) as server:
        assert server.wait(60) == 1
        assert "the application at /app did not start: OSError: no database" in server.log()


@pytest.mark.parametrize("path", ["/fast/pieces", "/flask/pieces"])
def test_a_piece_leaves_as_it_is_yielded(file, path):
    with serving_service(file) as server:
        connection, answer = begun(server, path)
        assert answer.readline() == b"piece 0\n"
        for number in range(3):
            (file.parent / f"open-{number}").touch()
            assert answer.readline() == b"piece %d\n" % (number + 1)
        assert answer.getheader("content-type").startswith("text/plain")
        assert answer.getheader("content-length") is None
        assert answer.getheader("x-request-id")
        connection.close()
        answer.close()
        # Nothing but the caller who left ends what it yields from here on.
        (file.parent / "open").touch()
        until(lambda: any("ended" in line for line in notes(file)), 20, "the generator is closed")


def test_a_caller_who_leaves_ends_what_is_streamed_at_once(file):
    with serving_service(file) as server:
        connection, answer = begun(server, "/fast/pieces")
        assert answer.readline() == b"piece 0\n"
        connection.close()
        answer.close()
        # It was waiting, and nothing else would have ended its wait.
        until(lambda: "ended" in notes(file), 20, "the generator is closed")

        assert "taken 1" not in notes(file)


def test_a_stream_ends_with_the_time_of_its_request(file):
    with serving_service(file) as server:
        connection, answer = begun(server, "/fast/pieces", {"X-Request-Timeout": "3"})
        assert answer.readline() == b"piece 0\n"
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
        connection.close()
        until(lambda: "ended" in notes(file), 20, "the generator is closed")


def test_an_answer_that_fails_in_the_middle_is_not_taken_for_whole(file):
    with serving_service(file) as server:
        connection, answer = begun(server, "/fast/fails")
        with pytest.raises(http.client.IncompleteRead) as caught:
            answer.read()
        connection.close()

        assert caught.value.partial == b"first"
        assert ask(server.http, "GET", "/bare").body == b"bare"


def test_more_callers_are_answered_at_once_than_there_are_threads(file):
    with serving_service(file) as server, ThreadPoolExecutor(100) as pool:
        asked = [pool.submit(ask, server.http, "GET", "/fast/waits") for _ in range(100)]
        until(lambda: notes(file).count("waits") == 100, 60, "all of them wait")
        (file.parent / "open").touch()

        assert {each.result().status for each in asked} == {200}


def test_an_application_that_does_not_stop_holds_nothing_up(tmp_path, monkeypatch):
    source = """
    from contextlib import asynccontextmanager
    from starlette.applications import Starlette

    @asynccontextmanager
    async def lifespan(app):
        yield
        await asyncio.Event().wait()

    svc = Service("s")
    svc.mount_asgi_app(Starlette(lifespan=lifespan), "/app")
    svc.on_shutdown(lambda: (HERE / "stopped").touch())
    """
    file = write_service(tmp_path, monkeypatch, source)
    with starting(f"{file}:svc", env={"HEADRACE_HOME": str(tmp_path / "home")}) as server:
        server.wait_ready()
        server.signal()

        assert server.wait(60) == 0
        assert "the application at /app did not stop in time" in server.log()
    # What comes after it is done all the same.
    assert (tmp_path / "stopped").exists()


def test_a_large_stream_is_as_fast_as_its_reader(file):
    with serving_service(file) as server:
        connection, answer = begun(server, "/fast/large")
        assert len(answer.read(10)) == 10
        assert len(answer.read()) == 200 * 100_000 - 10
        connection.close()


def test_a_whole_answer_has_a_length_and_is_compressed(file):
    with serving_service(file) as server:
        plain = ask(server.http, "GET", "/fast/whole")
        packed = ask(server.http, "GET", "/fast/whole", headers={"Accept-Encoding": "gzip"})

    assert int(plain.headers["content-length"]) == len(plain.body)
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body


def test_bodies_are_bounded_and_decompressed_as_elsewhere(file):
    with serving_service(file, "--max-body-size", 100_000) as server:
        post = {"Content-Type": "text/plain"}
        assert ask(server.http, "POST", "/fast/echo", b"x" * 100_000, post).json == [100_000, None]
        assert ask(server.http, "POST", "/fast/echo", b"x" * 100_001, post).status == 413
        packed = gzip.compress(b"x" * 50_000)
        zipped = {**post, "Content-Encoding": "gzip"}
        assert ask(server.http, "POST", "/fast/echo", packed, zipped).json == [50_000, None]
        assert ask(server.http, "POST", "/flask/about", b"x" * 100_001, post).status == 413


def test_a_flask_application_gets_the_whole_request(file):
    with serving_service(file) as server:
        sent = {"X-Own": "own", "Content-Type": "text/plain"}
        found = ask(server.http, "PUT", "/flask/about?q=%C3%A9", "bödy".encode(), sent)
        chunked = chunked_post(server, "/flask/about", [b"one", b"two"])
        missing = ask(server.http, "GET", "/flask/nothing")
        broken = ask(server.http, "GET", "/flask/broken")
        asked = ask(server.http, "GET", "/flask/asks")

    assert found.json == ["PUT", "/flask", "/about", "é", "bödy", "own"]
    assert "a=1" in found.headers["set-cookie"] or "b=2" in found.headers["set-cookie"]
    assert chunked == ["POST", "/flask", "/about", None, "onetwo", None]
    assert (missing.status, b"Not Found" in missing.body) == (404, True)
    # Flask's own page, as it has no handler for the error.
    assert (broken.status, b"secret" in broken.body) == (500, False)
    assert asked.json == [2.0, 2.0]


def chunked_post(server, path, parts):
    connection = http.client.HTTPConnection(urlsplit(server.http).netloc, timeout=30)
    connection.request("POST", path, iter(parts), encode_chunked=True)
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    return found
