"""Endpoints of services, as a client of a real server sees them."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.asking import Client, ask, numbers, request, tensor
from support.services import serving_service, write_service
from support.serving import starting, until

pytestmark = pytest.mark.e2e

SERVICE = """
doubler = stored("doubler")
svc = Service("sums", runners=[doubler])

@svc.api(input=NumpyNdarray(dtype="float64", shape=[-1, 2], enforce_shape=True),
         output=NumpyNdarray())
async def double(x):
    return await doubler.predict.async_run(x)

@svc.api(input=NumpyNdarray(), output=NumpyNdarray(), route="/plain/double")
def double_plainly(x):
    return doubler.predict.run(x)

@svc.api
def add(a: int, b: int = 1) -> int:
    \"\"\"Adds two numbers.\"\"\"
    return a + b

@svc.api
def started() -> str:
    return svc_state["name"]

@svc.api(input=JSON(), output=JSON())
def seen(value, ctx: Context):
    ctx.response.status_code = 201
    ctx.response.headers["X-Mine"] = "yes"
    ctx.response.set_cookie("seen", "1")
    request = ctx.request
    return [value, request.headers["X-Sent"], request.query_params["q"], ctx.state["name"]]

@svc.api(input=Text(), output=Text())
async def fails(text):
    if text == "exit":
        raise SystemExit(3)
    raise ValueError("the secret is " + text) if text else InvalidInput("say something")

@svc.api(input=Text(), output=JSON())
def wrong(text):
    return object()

@svc.api(input=NumpyNdarray(), output=NumpyNdarray())
async def forgets(x):
    return doubler.predict.async_run(x)

@svc.api(input=NumpyNdarray(), output=JSON())
async def forgets_inside(x):
    return {"doubled": doubler.predict.async_run(x)}

@svc.api(input=NumpyNdarray(), output=NumpyNdarray())
async def unlisted(x):
    return await stored("doubler", name="forgotten").predict.async_run(x)

@svc.api
def pid() -> int:
    return os.getpid()

@svc.api
async def hold() -> str:
    (HERE / "holds").touch()
    while not (HERE / "open").exists():
        time.sleep(0.01)
    return "held"

svc_state = {}

@svc.on_startup
async def start(context):
    context.state["name"] = svc_state["name"] = "begun"

@svc.on_shutdown
def stop():
    (HERE / "stopped").touch()
"""


ONE = tensor("body", "BYTES", [1], ["{}"])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("service")
        file = write_service(root, patch, SERVICE, {"doubler": "return x * 2"})
        with serving_service(file) as server:
            server.root = root
            yield server
        assert (root / "stopped").exists()


@pytest.fixture
def client(server):
    with Client(server.http) as client:
        yield client


@pytest.mark.parametrize("path", ["/double", "/plain/double"])
def test_an_endpoint_answers_by_way_of_its_runner(client, path):
    answer = client.ask("POST", path, [[1, 2], [3, 4.5]])

    assert (answer.status, answer.json) == (200, [[2, 4], [6, 9]])
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]


def test_the_types_of_a_function_are_its_input_and_output(client):
    assert client.ask("POST", "/add", {"a": 2, "b": 3}).json == 5
    assert client.ask("POST", "/add", {"a": 2}).json == 3


def test_an_endpoint_without_input_answers_get(client):
    assert client.ask("GET", "/started").body == b"begun"
    assert client.ask("POST", "/started", b"").status == 405


def test_the_context_has_the_request_and_takes_what_is_sent_with_the_answer(client):
    answer = client.ask("POST", "/seen?q=%C3%A9", [1], {"x-sent": "s"})

    assert (answer.status, answer.json) == (201, [[1], "s", "é", "begun"])
    assert answer.headers["x-mine"] == "yes"
    assert answer.headers["set-cookie"].startswith("seen=1; ")


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/double", b"[[1, 2", 400, "the body is not valid JSON"),
        ("/double", b"[[1, 2, 3]]", 400, "shape"),
        ("/add", b'{"b": 1}', 400, "'a'"),
        ("/fails", b"", 400, "say something"),
        ("/nowhere", b"", 404, "nothing is served at /nowhere"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(client, path, body, status, words):
    kind = {"content-type": "text/plain"} if path == "/fails" else {}
    answer = client.ask("POST", path, body, kind)

    assert answer.status == status
    assert words in answer.json["error"]


@pytest.mark.parametrize("text", [b"key", b"exit"])
def test_what_an_endpoint_raises_is_in_the_log_and_not_in_the_answer(server, client, text):
    answer = client.ask("POST", "/fails", text, {"x-request-id": "r-" + text.decode()})

    assert (answer.status, answer.json["code"]) == (500, "model_error")
    assert answer.json["error"].startswith("endpoint 'fails' of service 'sums' failed")
    assert "secret" not in answer.json["error"]
    assert '"request_id":"r-' + text.decode() in server.log()


def test_an_answer_that_its_output_cannot_hold_is_the_services_fault(client):
    answer = client.ask("POST", "/wrong", b"x", {"content-type": "text/plain"})

    assert (answer.status, answer.json["code"]) == (500, "bad_model_output")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/forgets", "endpoint 'forgets' returned a coroutine: it has to await"),
        ("/forgets_inside", "coroutine has no JSON form; it has to be awaited"),
    ],
)
def test_an_endpoint_that_forgets_to_await_is_told_so(client, path, words):
    answer = client.ask("POST", path, [1.0])

    assert (answer.status, answer.json["code"]) == (500, "bad_model_output")
    assert words in answer.json["error"]


def test_a_runner_that_the_service_does_not_list_is_the_services_fault(server, client):
    answer = client.ask("POST", "/unlisted", [1.0], {"x-request-id": "unlisted"})

    assert (answer.status, answer.json["code"]) == (500, "model_error")
    assert "runner 'forgotten' is not served: add it to the runners" in answer.json["error"]
    lines = [line for line in server.log().splitlines() if '"request_id":"unlisted"' in line]
    assert len(lines) == 1
    assert "'forgotten'" in lines[0]


def test_a_large_array_passes_through_the_service_and_its_runner(client):
    rows = [[float(row), 0.5] for row in range(60_000)]

    answer = client.ask("POST", "/double", rows)

    assert answer.status == 200
    assert answer.json[-1] == [2 * 59_999.0, 1.0]


def test_the_model_of_a_runner_is_served_at_v2_too(client):
    answer = client.ask("POST", "/v2/models/doubler/infer", numbers(1.5))

    assert answer.json["outputs"][0]["data"] == [3.0]
    assert answer.json["model_version"]


def test_a_nameless_route_means_the_model_and_not_the_service(client):
    answer = client.ask("POST", "/invocations", {"inputs": [1.0, 2.0]})

    assert answer.json == {"predictions": [2.0, 4.0]}


def test_endpoints_are_in_the_openapi_document_as_their_descriptors_say(client):
    document = client.ask("GET", "/openapi.json").json
    operation = document["paths"]["/add"]["post"]

    assert operation["summary"] == "Adds two numbers."
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["a"] == {"type": "integer"}
    assert "get" in document["paths"]["/started"]


def test_a_service_has_a_process_of_its_own(server, client):
    pid = client.ask("GET", "/pid").json

    assert pid in server.workers()
    assert pid != server.process.pid
    assert len(server.workers()) == 2


def test_an_endpoint_that_blocks_holds_up_neither_health_nor_models(server, client):
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(ask, server.http, "GET", "/hold")
        until(lambda: (server.root / "holds").exists(), 20, "the endpoint runs")

        assert client.ask("GET", "/v2/health/live").status == 200
        assert client.ask("GET", "/v2/health/ready").status == 200
        assert client.ask("POST", "/v2/models/doubler/infer", numbers(1)).status == 200
        # Of the same service: plain endpoints have threads, even while its loop is blocked.
        assert client.ask("POST", "/plain/double", [1]).json == [2]
        (server.root / "open").touch()
        assert held.result().body == b"held"


def test_a_killed_service_comes_back_and_its_request_is_answered(server, client):
    os.kill(client.ask("GET", "/pid").json, signal.SIGKILL)

    assert client.ask("POST", "/double", [[1, 2]]).json == [[2, 4]]


def test_endpoints_are_called_by_name_over_inference_protocols(client):
    body = request(
        tensor("body", "BYTES", [1], ['{"a": 2, "b": 5}']), parameters={"endpoint": "add"}
    )
    output = client.ask("POST", "/v2/models/sums/infer", body).json["outputs"][0]

    assert (output["datatype"], json.loads(output["data"][0])) == ("BYTES", 7)


def test_an_endpoint_that_gets_a_tensor_answers_one(client):
    body = request(tensor("x", "FP64", [1, 2], [1.5, 2.0]), parameters={"endpoint": "double"})
    output = client.ask("POST", "/v2/models/sums/infer", body).json["outputs"][0]

    assert (output["datatype"], output["shape"], output["data"]) == ("FP64", [1, 2], [3.0, 4.0])


@pytest.mark.parametrize(
    ("inputs", "parameters", "words"),
    [
        ([ONE], {}, "parameter 'endpoint'"),
        ([ONE], {"endpoint": "other"}, "got 'other'"),
        ([tensor("a", "BYTES", [2], ["1", "2"])], {"endpoint": "add"}, "one BYTES element"),
        ([tensor("a", "FP64", [1], [1.0])], {"endpoint": "add"}, "takes no array"),
        ([ONE, {**ONE, "name": "b"}], {"endpoint": "add"}, "takes one input"),
    ],
)
def test_a_call_by_name_that_is_wrong_is_refused(client, inputs, parameters, words):
    body = {"inputs": inputs, "parameters": parameters}
    answer = client.ask("POST", "/v2/models/sums/infer", body)

    assert answer.status == 400
    assert words in answer.json["error"]


def test_a_service_is_loaded_again_when_its_file_changes(tmp_path, monkeypatch):
    source = "svc = Service('s')\n\n@svc.api\ndef which() -> str:\n    return {!r}\n"
    file = write_service(tmp_path, monkeypatch, source.format("old"))
    before = file.read_text()
    with serving_service(file, "--reload") as server:

        def which():
            return ask(server.http, "GET", "/which").body

        assert which() == b"old"
        file.write_text(before.replace("old", "new"))
        until(lambda: which() == b"new", 30, "the new file is served")
        file.write_text("svc = (")
        until(lambda: "not loaded again" in server.log(), 30, "the broken file is refused")
        assert which() == b"new"


def test_reload_is_refused_for_what_is_not_a_service(tmp_path):
    with starting(tmp_path, "--reload") as server:
        assert server.wait(30) == 2
        assert "--reload is for services" in server.log()
