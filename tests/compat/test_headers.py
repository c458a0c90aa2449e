"""`parameters.headers` of requests and answers, behind a real server."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from headrace.protocol.open_inference import inference_pb2 as pb
from support import mlserver_sources as sources
from support.asking import Client, ask, numbers, tensor
from support.asking import request as request_of
from support.custom import write_model
from support.serving import serving

pytestmark = pytest.mark.e2e

ECHO = """
from mlserver import MLModel, types
from mlserver.codecs import StringCodec

class Runtime(MLModel):
    async def predict(self, payload):
        given = payload.parameters.headers
        return types.InferenceResponse(
            model_name=self.name,
            parameters=types.Parameters(kept="yes", headers={"X-Seen": given.get("x-mine", "-")}),
            outputs=[StringCodec.encode_output("names", sorted(given))],
        )
"""

COPIES = """
from mlserver import MLModel, types

class Runtime(MLModel):
    async def predict(self, payload):
        return types.InferenceResponse(
            model_name=self.name, parameters=payload.parameters, outputs=[]
        )
"""

KINDS = """
from mlserver import MLModel, types
from mlserver.codecs import StringCodec

class Runtime(MLModel):
    async def predict(self, payload):
        (element,) = payload.inputs[0].data.root
        (text,) = StringCodec.decode_input(payload.inputs[0])
        answer = f"{type(element).__name__}:{text}"
        return types.InferenceResponse(
            model_name=self.name, outputs=[StringCodec.encode_output("kind", [answer])]
        )
"""

BREAKS = """
from mlserver import MLModel, types

class Runtime(MLModel):
    async def predict(self, payload):
        return types.InferenceResponse(
            model_name=self.name, parameters={"headers": {"x-a": "1\\r\\nx-b: 2"}}, outputs=[]
        )
"""

BATCHED = """
from mlserver import MLModel, types
from mlserver.codecs import NumpyCodec

class Runtime(MLModel):
    async def predict(self, payload):
        x = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        headers = payload.parameters.headers
        found = len(x) * 100 + ("x-mine" in headers) * 10 + ("x-same" in headers)
        return self.encode_response(x * 0 + found)
"""


@pytest.fixture(scope="module", params=["--no-native-grpc", "--native-grpc"])
def server(tmp_path_factory, request):
    root = tmp_path_factory.mktemp("runtimes")
    sources.write(root / "echo", ECHO)
    sources.write(root / "copies", COPIES)
    sources.write(root / "breaks", BREAKS)
    sources.write(root / "kinds", KINDS)
    # A batch waits until it is full, so which requests run together is certain.
    sources.write(root / "batched", BATCHED, max_batch_size=4, max_batch_time=60)
    write_model(root, name="own")
    with serving(root, request.param) as server:
        yield server


def infer(server, name, headers=None, body=None):
    path = f"/v2/models/{name}/infer"
    return ask(server.http, "POST", path, body or numbers(1), headers)


def test_headers_come_and_go(server):
    answer = infer(server, "echo", {"X-Mine": "a"})

    assert {"x-mine", "host", "content-type"} <= set(answer.json["outputs"][0]["data"])
    assert answer.headers["x-seen"] == "a"
    assert answer.json["parameters"] == {"kept": "yes"}


def test_headers_that_a_client_writes_into_its_body_are_replaced(server):
    answer = infer(server, "echo", body=numbers(1) | {"parameters": {"headers": {"x-mine": "b"}}})

    assert answer.headers["x-seen"] == "-"


def test_headers_come_with_a_body_in_mlflows_form(server):
    path = "/v2/models/echo/invocations"

    answer = ask(server.http, "POST", path, {"inputs": [1.0]}, {"X-Mine": "a"})

    assert (answer.status, answer.headers["x-seen"]) == (200, "a")


def test_a_runtime_that_sends_all_headers_back_breaks_no_answer(server):
    with Client(server.http) as client:
        for _ in range(2):
            answer = client.ask(
                "POST", "/v2/models/copies/infer", numbers(1), {"X-Mine": "a", "X-Request-Id": "r"}
            )
            assert (answer.headers["x-mine"], answer.headers["x-request-id"]) == ("a", "r")
            assert answer.json["outputs"] == []


def test_a_line_break_in_a_header_is_the_models_fault(server):
    answer = infer(server, "breaks")

    assert (answer.status, answer.json["code"]) == (500, "bad_model_output")
    assert "header 'x-a', which HTTP cannot carry" in answer.json["error"]
    assert "x-b" not in answer.headers


def test_requests_that_differ_in_headers_share_batches_but_no_header(server):
    def one(number):
        return infer(server, "batched", {"X-Mine": str(number), "X-Same": "s"})

    with ThreadPoolExecutor(12) as threads:
        answers = [answer.json["outputs"][0]["data"] for answer in threads.map(one, range(12))]

    assert answers == [[401]] * 12  # Four rows, and of the two headers the equal one.


def test_a_batch_of_one_request_has_all_of_its_headers(server):
    headers = {"X-Mine": "1", "X-Same": "s"}

    answer = infer(server, "batched", headers, numbers(1, 2, 3, 4))

    assert answer.json["outputs"][0]["data"] == [411] * 4


def test_a_model_that_asks_for_none_has_its_own_parameters(server):
    answer = infer(server, "own", {"X-Mine": "a"})

    assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [2.0])


def test_metadata_come_and_go_over_grpc(server):
    message = pb.ModelInferRequest(model_name="echo")
    added = message.inputs.add(name="x", datatype="FP64", shape=[1])
    added.contents.fp64_contents.append(1)
    with grpc.insecure_channel(server.announced["grpc"]) as channel:
        method = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        answer, call = method.with_call(message, metadata=(("x-mine", "a"), ("x-request-id", "r")))

    trailing = dict(call.trailing_metadata())
    assert (trailing["x-seen"], trailing["x-request-id"]) == ("a", "r")
    assert dict(answer.parameters)["kept"].string_param == "yes"
    assert "headers" not in answer.parameters


def test_a_runtime_that_sends_all_metadata_back_breaks_no_call(server):
    message = pb.ModelInferRequest(model_name="copies")
    added = message.inputs.add(name="x", datatype="FP64", shape=[1])
    added.contents.fp64_contents.append(1)
    with grpc.insecure_channel(server.announced["grpc"]) as channel:
        method = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        _, call = method.with_call(message, metadata=(("x-mine", "a"), ("x-b-bin", b"\0")))

    assert dict(call.trailing_metadata())["x-mine"] == "a"


def test_text_is_bytes_over_grpc_and_str_over_http(server):
    message = pb.ModelInferRequest(model_name="kinds")
    added = message.inputs.add(name="x", datatype="BYTES", shape=[1])
    added.contents.bytes_contents.append(b"a")
    with grpc.insecure_channel(server.announced["grpc"]) as channel:
        method = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        answer = method(message)
    body = request_of(tensor("x", "BYTES", [1], ["a"]))

    assert answer.outputs[0].contents.bytes_contents == [b"bytes:a"]
    assert infer(server, "kinds", body=body).json["outputs"][0]["data"] == ["str:a"]


def test_a_stream_gets_headers(server):
    body = json.dumps(numbers(1)).encode()

    answer = ask(server.http, "POST", "/v2/models/echo/infer_stream", body, {"X-Mine": "a"})

    assert answer.status == 200
    assert b'"x-mine"' in answer.body
