"""`--access-log`: one line for each request, whatever the protocol and the outcome."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest

from headrace.protocol.open_inference import inference_pb2 as pb
from support.asking import ask, numbers, send_raw
from support.custom import write_model
from support.services import serving_service, write_service
from support.serving import Server, serving, until

pytestmark = pytest.mark.e2e

INFER = "/v2/models/m/infer"
FIELDS = {
    *("protocol", "route", "model", "request_id", "bytes_in", "bytes_out"),
    *("rows", "batch", "queue_ms", "compute_ms", "total_ms", "caller"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = write_model(tmp_path_factory.mktemp("log"))
    with serving(folder, "--access-log", "--log-format", "json") as running:
        yield running


def lines(server: Server, request_id: str, fewest: int = 1) -> list[dict]:
    """The lines that the log has of a request; none until there are enough."""
    found = [json.loads(text) for text in server.log().splitlines() if text[:1] == "{"]
    found = [each for each in found if each.get("request_id") == request_id]
    return found if len(found) >= fewest else []


def line(server: Server, request_id: str) -> dict:
    """The only line that the log has of a request."""
    (only,) = until(lambda: lines(server, request_id), 60, "the line is written")
    assert only["logger"] == "headrace.calls"
    return only


def test_an_answer_has_a_line_with_its_times(server: Server) -> None:
    body = json.dumps(numbers(1, 2)).encode()
    answer = ask(server.http, "POST", INFER, body, {"X-Request-Id": "one"})
    logged = line(server, "one")

    assert logged.keys() >= FIELDS
    assert (logged["protocol"], logged["route"]) == ("open_inference", "/v2/models/{name}/infer")
    assert (logged["status"], logged["model"]) == (200, "m")
    assert (logged["bytes_in"], logged["bytes_out"]) == (len(body), len(answer.body))
    assert logged["level"] == "info"
    assert logged["caller"].startswith("127.0.0.1:")
    assert 0 <= logged["compute_ms"] <= logged["total_ms"]


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        (INFER, b"{", 400, "invalid_argument"),
        ("/v2/models/nobody/infer", numbers(1), 404, "not_found"),
        ("/v2/models/m/infer_stream", numbers(1), 501, "unimplemented"),
        ("/v2/models/m/raw", b"x", 400, "invalid_argument"),
    ],
)
def test_a_refusal_has_one_line_with_its_kind(server: Server, path, body, status, kind) -> None:
    ask(server.http, "POST", path, body, {"X-Request-Id": f"no-{path}-{status}"})
    logged = line(server, f"no-{path}-{status}")

    assert (logged["status"], logged["kind"]) == (status, kind)
    assert logged["total_ms"] >= 0


@pytest.mark.parametrize(
    ("method", "path", "status", "protocol"),
    [
        ("GET", "/v2/health/ready", 200, "admin"),
        ("GET", "/v2/models/m", 200, "admin"),
        ("GET", "/v2/models/m/versions/9", 404, "admin"),
        ("POST", "/v2/repository/index", 200, "admin"),
        ("POST", "/v2/repository/models/nobody/load", 404, "admin"),
        ("GET", "/metrics", 200, "admin"),
        ("GET", "/v1/models", 200, "admin"),
        ("GET", "/nowhere", 404, "http"),
        ("DELETE", INFER, 405, "http"),
    ],
)
def test_a_request_about_the_server_has_a_line_too(
    server: Server, method, path, status, protocol
) -> None:
    id = f"{method}{path}"
    answer = ask(server.http, method, path, b"" if method == "POST" else None, {"X-Request-Id": id})
    logged = line(server, id)

    assert answer.headers["x-request-id"] == id
    assert (answer.status, logged["status"], logged["protocol"]) == (status, status, protocol)


def test_the_listener_for_metrics_has_lines_as_well(server: Server) -> None:
    ask(server.announced["metrics"], "GET", "", None, {"X-Request-Id": "scrape"})

    assert line(server, "scrape")["route"] == "/metrics"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /v2 HTTP/1.1\r\nX-Request-Id: %b\r\nHost: x\r\nno field\r\n\r\n", 400),
        (
            b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nX-Request-Id: %b\r\n"
            b"Content-Length: 9\r\n\r\n{",
            408,
        ),
        (b"POST /v2/x HTTP/1.1\r\nHost: x\r\nX-Request-Id: %b\r\nContent-Length: 9\r\n\r\n{", 404),
    ],
    ids=["a malformed head", "a body that does not come", "a body that nobody reads"],
)
def test_what_is_refused_while_it_is_received_has_one_line(tmp_path: Path, head, status) -> None:
    with serving(
        write_model(tmp_path), "--access-log", "--log-format", "json", "--body-timeout", "1"
    ) as server:
        answer = send_raw(server.http, head % b"cut", timeout=60)

        assert answer is not None
        assert answer.status == status
        assert line(server, "cut")["status"] == status


def test_a_call_over_grpc_has_the_same_line(server: Server) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1])
    tensor.contents.fp64_contents.append(3.0)
    message = pb.ModelInferRequest(model_name="m", inputs=[tensor])
    with grpc.insecure_channel(server.announced["grpc"]) as channel:
        method = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        method(message, metadata=[("x-request-id", "two")], timeout=60)
    logged = line(server, "two")

    assert logged.keys() >= FIELDS
    assert (logged["protocol"], logged["route"]) == ("open_inference_grpc", "ModelInfer")
    assert (logged["grpc_status"], logged["bytes_in"]) == ("OK", message.ByteSize())


def test_without_the_switch_only_refusals_are_logged(tmp_path: Path) -> None:
    with serving(write_model(tmp_path), "--log-format", "json") as quiet:
        ask(quiet.http, "POST", INFER, numbers(1), {"X-Request-Id": "fine"})
        ask(quiet.http, "POST", INFER, b"{", {"X-Request-Id": "broken"})

        refused = line(quiet, "broken")
        assert (refused["status"], refused["model"]) == (400, "m")
        assert refused["route"] == "/v2/models/{name}/infer"
        assert '"fine"' not in quiet.log()


def test_the_calls_of_runners_have_lines_whose_status_is_a_number_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
    plain = stored("plain")
    svc = Service("s", runners=[plain])

    @svc.api(input=NumpyNdarray(), output=NumpyNdarray())
    async def ask(x):
        return await plain.predict.async_run(x)
    """
    predict = "if x[0] < 0: raise InvalidInput('negative')\nreturn x"
    file = write_service(tmp_path, monkeypatch, source, {"plain": predict})
    with serving_service(file, "--access-log", "--log-format", "json") as server:
        for value, status in ((1.0, 200), (-1.0, 400)):
            ask(server.http, "POST", "/ask", [value], {"X-Request-Id": f"of-{value}"})
            found = until(lambda: lines(server, f"of-{value}", 2), 60, "both lines")  # noqa: B023

            assert {each["protocol"]: each["status"] for each in found} == {
                "model_route": status,
                "runner": status,
            }
