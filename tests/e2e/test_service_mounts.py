"""Middleware and mounted applications of a service, and its endpoints over gRPC."""

from __future__ import annotations

import json

import grpc
import pytest

from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.tensor import pack_bytes, unpack_bytes
from support.asking import ask
from support.services import serving_service, write_service

pytestmark = pytest.mark.e2e

SERVICE = """
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

class Stamp:
    def __init__(self, app, mark):
        self.app, self.mark = app, mark

    async def __call__(self, scope, receive, send):
        if scope["path"] == "/closed":
            return await PlainTextResponse("go away", 403)(scope, receive, send)

        async def stamped(message):
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-mark", self.mark.encode()))
            await send(message)

        await self.app(scope, receive, stamped)

async def where(request):
    return JSONResponse([request.method, request.url.path, request.query_params.get("q")])

svc = Service("mounted")
svc.add_asgi_middleware(Stamp, mark="outer")
svc.add_asgi_middleware(Stamp, mark="inner")
svc.mount_asgi_app(Starlette(routes=[Route("/{rest:path}", where, methods=["GET", "PUT"])]), "/sub")

@svc.api
async def add(a: int, b: int) -> int:
    return a + b

@svc.api
def multiply(a: int, b: int) -> int:
    if a < 0:
        raise InvalidInput("a is negative")
    return a * b

@svc.api
def closed(a: int) -> int:
    return a

@svc.api(input=NumpyNdarray(dtype="float32"), output=NumpyNdarray())
def square(x):
    return x ** 2
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        file = write_service(tmp_path_factory.mktemp("mounted"), patch, SERVICE)
        with serving_service(file) as server:
            yield server


@pytest.mark.parametrize(("path", "answer"), [("/add", 5), ("/multiply", 6)])
def test_every_endpoint_passes_the_middleware(server, path, answer):
    found = ask(server.http, "POST", path, {"a": 2, "b": 3})

    assert (found.status, found.json) == (200, answer)
    assert found.headers["x-mark"] in ("inner, outer", "outer")


def test_a_middleware_may_answer_itself(server):
    found = ask(server.http, "POST", "/closed", 1)

    assert (found.status, found.body) == (403, b"go away")


def test_what_an_endpoint_refuses_behind_a_middleware_is_said(server):
    found = ask(server.http, "POST", "/multiply", {"a": -1, "b": 1})

    assert (found.status, found.json["error"]) == (400, "a is negative")


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_mounted_application_answers_below_its_path(server, method):
    found = ask(server.http, method, "/sub/a/b?q=1")

    assert found.json == [method, "/sub/a/b", "1"]


def test_a_mounted_application_has_its_own_404_and_405(server):
    assert ask(server.http, "DELETE", "/sub/a").status == 405
    assert ask(server.http, "GET", "/elsewhere").json["code"] == "not_found"


def infer(server, endpoint, tensor, **parameters):
    message = pb.ModelInferRequest(model_name="mounted", inputs=[tensor[0]])
    message.raw_input_contents.append(tensor[1])
    for name, value in {"endpoint": endpoint, **parameters}.items():
        message.parameters[name].string_param = value
    with grpc.insecure_channel(server.announced["grpc"]) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        return call(message, timeout=20)


def body(text):
    tensor = pb.ModelInferRequest.InferInputTensor(name="body", datatype="BYTES", shape=[1])
    return tensor, pack_bytes([text])


def test_an_endpoint_is_called_over_grpc_by_its_name(server):
    answer = infer(server, "add", body(b'{"a": 1, "b": 2}'))

    assert answer.outputs[0].datatype == "BYTES"
    assert json.loads(unpack_bytes(answer.raw_output_contents[0], 1)[0]) == 3
    assert answer.parameters["media_type"].string_param == "application/json"


def test_tensors_cross_grpc_as_tensors(server):
    import numpy as np

    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[2])
    answer = infer(server, "square", (tensor, np.array([3, 4], np.float32).tobytes()))

    assert answer.outputs[0].datatype == "FP32"
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [9, 16]


def test_what_an_endpoint_refuses_over_grpc_has_its_status(server):
    with pytest.raises(grpc.RpcError) as caught:
        infer(server, "multiply", body(b'{"a": -1, "b": 2}'))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "a is negative" in caught.value.details()
