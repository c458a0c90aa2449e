"""Custom routes of MLServer runtimes, as a client of a real server sees them."""

from __future__ import annotations

import gzip
import os
import signal

import pytest

from support import mlserver_sources as sources
from support.asking import Client, ask
from support.serving import serving, until

pytestmark = pytest.mark.e2e

EXPLAIN = """
import os, time
from mlserver import MLModel
from mlserver.errors import MLServerError
from mlserver.handlers.custom import custom_handler
from mlserver.rest.responses import Response

class Runtime(MLModel):
    @custom_handler(rest_path="/explain")
    async def explain(self, payload: list, scale: int = 1):
        '''Explains numbers.'''
        return {"total": sum(payload) * scale}

    @custom_handler(rest_path="/v1/models/{name}/rows/{row:int}", rest_method="GET")
    async def row(self, request, name: str, row: int):
        return [name, row, request.headers["X-Mine"], request.query_params["q"]]

    @custom_handler(rest_path="/explain", rest_method="DELETE")
    async def forget(self):
        return Response(b"stray", 204, {"X-Mine": "gone", "Content-Length": "99"})

    @custom_handler(rest_path="/packed", rest_method="GET")
    async def packed(self):
        import gzip
        return Response(
            gzip.compress(bytes(5000)), headers={"Content-Encoding": "gzip"}, media_type="x/y"
        )

    @custom_handler(rest_path="/")
    async def root(self, payload: bytes):
        return len(payload)

    @custom_handler(rest_path="/wrong", rest_method="GET")
    async def wrong(self):
        raise MLServerError("not today", 418)

    @custom_handler(rest_path="/breaks", rest_method="GET")
    async def breaks(self):
        return Response(b"", headers={"X-A": "1\\r\\nX-B: 2"})

    @custom_handler(rest_path="/sleep")
    async def sleep(self):
        time.sleep(60)

    @custom_handler(rest_path="/pid", rest_method="GET")
    async def pid(self):
        return os.getpid()

    @custom_handler(rest_path="/health", rest_method="GET")
    async def health(self):
        return "mine"

    @custom_handler(rest_path="/v2/models/{name}/infer")
    async def infer(self, name: str):
        return "mine"
"""

ONE = """
from mlserver import MLModel
from mlserver.handlers import custom_handler

class Runtime(MLModel):
    @custom_handler(rest_path="/which", rest_method="GET")
    async def which(self):
        return {answer!r}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("runtimes")
    sources.write(root / "m", EXPLAIN)
    with serving(root, "--max-body-size", 10_000) as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.http) as client:
        yield client


def test_a_body_and_a_query(client):
    answer = client.ask("POST", "/explain?scale=2", [1, 2])

    assert (answer.status, answer.json) == (200, {"total": 6})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]


def test_a_compressed_body(client):
    answer = client.ask("POST", "/explain", gzip.compress(b"[1, 2]"), {"Content-Encoding": "gzip"})

    assert answer.json == {"total": 3}


def test_parts_of_the_path_and_headers(client):
    path = "/v1/models/a%20b/rows/7?q=%C3%A9"

    assert client.ask("GET", path, headers={"X-Mine": "h"}).json == ["a b", 7, "h", "é"]


def test_an_answer_without_a_body_leaves_the_connection_usable(client):
    answer = client.ask("DELETE", "/explain")

    assert (answer.status, answer.body, answer.headers["x-mine"]) == (204, b"", "gone")
    assert "content-length" not in answer.headers
    assert client.ask("POST", "/explain", [1]).json == {"total": 1}


def test_an_answer_that_is_compressed_already_is_not_compressed_again(client):
    answer = client.ask("GET", "/packed", headers={"Accept-Encoding": "gzip"})

    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) == bytes(5000)


def test_a_method_that_the_servers_own_route_lacks(client):
    assert client.ask("POST", "/", b"abc").json == 3
    assert client.ask("GET", "/").headers["content-type"].startswith("text/plain")


def test_another_method_is_a_405_that_names_the_allowed_ones(client):
    answer = client.ask("PUT", "/explain", [1])

    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, POST")
    assert answer.json["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        pytest.param("/explain", {}, 400, "the body: expected a list", id="another type"),
        pytest.param(
            "/explain?scale=x", [1], 400, "query 'scale': expected an integer", id="query"
        ),
        pytest.param("/explain", b"[" + b"1," * 9000 + b"1]", 413, "--max-body-size", id="large"),
        pytest.param("/nowhere", [1], 404, "nothing is served at /nowhere", id="no route"),
    ],
)
def test_a_wrong_request_is_refused_by_the_table_of_errors(client, path, body, status, message):
    answer = client.ask("POST", path, body)

    assert answer.status == status
    assert message in answer.json["error"]


def test_an_error_with_a_status_is_answered_with_it(client):
    answer = client.ask("GET", "/wrong")

    assert (answer.status, answer.json) == (418, {"error": "not today"})


def test_a_header_that_would_break_the_head_is_refused(client):
    answer = client.ask("GET", "/breaks")

    assert (answer.status, answer.json["code"]) == (500, "bad_model_output")
    assert "x-b" not in answer.headers


def test_the_servers_own_routes_come_first_and_a_warning_says_so(server, client):
    assert client.ask("GET", "/health").body == b"\n"
    for route in ("GET /health", "POST /v2/models/{name}/infer"):
        warning = f"custom route {route} is not served: the server itself has a route there"
        assert warning in server.log()


def test_the_openapi_document_names_them(client):
    paths = client.ask("GET", "/openapi.json").json["paths"]

    assert paths["/explain"]["post"]["summary"] == "Explains numbers."
    assert "delete" in paths["/explain"]
    row = paths["/v1/models/{name}/rows/{row}"]["get"]
    assert [item["name"] for item in row["parameters"]] == ["name", "row"]
    assert paths["/health"]["get"]["summary"] == "The same as /ping"


def test_a_handler_runs_in_the_worker(server, client):
    assert client.ask("GET", "/pid").json in server.workers()


def test_a_request_whose_worker_dies_is_answered_by_the_next(tmp_path):
    sources.write(tmp_path / "m", EXPLAIN)

    with serving(tmp_path) as server:
        before = ask(server.http, "GET", "/pid").json
        os.kill(before, signal.SIGKILL)
        until(lambda: before not in server.workers(), 60, "the worker is gone")
        assert ask(server.http, "GET", "/pid").json != before


def test_bodies_of_megabytes_come_and_go(tmp_path):
    source = ONE.format(answer=0).replace(
        "async def which(self):", "async def which(self, x: bytes):"
    )
    source = source.replace('"GET"', '"POST"').replace("return 0", "return Response(x[::-1])")
    sources.write(tmp_path / "m", "from mlserver.rest.responses import Response\n" + source)
    sent = bytes(range(256)) * 12_000

    with serving(tmp_path) as server:
        assert ask(server.http, "POST", "/which", sent).body == sent[::-1]


def test_a_handler_inside_the_server(tmp_path):
    sources.write(tmp_path / "m", EXPLAIN)

    with serving(tmp_path, "--parallel-workers", 0) as server:
        assert ask(server.http, "POST", "/explain", [1, 2]).json == {"total": 3}


def test_a_route_of_two_models_goes_to_the_first_and_then_to_the_other(tmp_path):
    sources.write(tmp_path / "a", ONE.format(answer="a"))
    sources.write(tmp_path / "b", ONE.format(answer="b"))

    with serving(tmp_path) as server:
        assert ask(server.http, "GET", "/which").json == "a"
        assert "custom route GET /which is not served: model 'a' already has it" in server.log()
        ask(server.http, "POST", "/v2/repository/models/a/unload")
        assert ask(server.http, "GET", "/which").json == "b"
        ask(server.http, "POST", "/v2/repository/models/b/unload")
        assert ask(server.http, "GET", "/which").status == 404


def test_a_reload_switches_the_routes_with_the_model(tmp_path):
    sources.write(tmp_path / "m", ONE.format(answer="old"))

    with serving(tmp_path) as server:
        assert ask(server.http, "GET", "/which").json == "old"
        # Renamed because, within the same second, Python would use the old compiled file.
        source = ONE.format(answer="newer").replace("/which", "/other")
        sources.write(tmp_path / "m", source)
        (tmp_path / "m" / "runtime_m.py").rename(tmp_path / "m" / "runtime_new.py")
        text = (tmp_path / "m" / "model-settings.json").read_text()
        (tmp_path / "m" / "model-settings.json").write_text(
            text.replace("runtime_m", "runtime_new")
        )
        assert ask(server.http, "POST", "/v2/repository/models/m/load").status == 200
        assert ask(server.http, "GET", "/which").status == 404
        assert ask(server.http, "GET", "/other").json == "newer"


def test_a_handler_past_its_deadline_is_a_504_and_the_next_is_answered(tmp_path):
    sources.write(tmp_path / "m", EXPLAIN)

    with serving(tmp_path, "--infer-timeout", "1") as server:
        answer = ask(server.http, "POST", "/sleep", b"")
        assert (answer.status, answer.json["code"]) == (504, "deadline_exceeded")
        # Its worker was ended with it, and the next may take longer to start than a request waits.
        until(lambda: ask(server.http, "POST", "/explain", [1]).status == 200, 60, "it answers")
