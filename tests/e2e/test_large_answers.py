"""Large answers: bounded before they leave the worker, and none of them ends the server."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from headrace.protocol.open_inference import GRPC_SERVICE
from headrace.protocol.open_inference import inference_pb2 as pb
from support.asking import Answer, ask, request, tensor
from support.plugins import write_plugin
from support.serving import FREE_PORTS, Server, serving

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

BOUND = 2_000_000
SOURCE = """
import numpy as np
from headrace.model import Model
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.tensor import Tensor, pack_bytes

class Answers(Model):
    def predict(self, kind: str, size: int):
        pass

    def infer(self, request):
        values = self._arguments.bind(request)
        return getattr(self, values["kind"])(values["size"])

    def infer_stream(self, request):
        yield InferenceResponse([])
        yield self.infer(request)

    def numbers(self, size):
        data = np.arange(size // 8, dtype="<f8").tobytes()
        return InferenceResponse([Tensor("small", "INT8", [1], b"1"),
                                  Tensor("large", "FP64", [size // 8], data)])

    def text(self, size):
        return InferenceResponse([Tensor("large", "BYTES", [1], pack_bytes([b"x" * size]))])

    def texts(self, size):
        texts = pack_bytes([b"x"]) * (size // 5)
        return InferenceResponse([Tensor("large", "BYTES", [size // 5], texts)])

    def parameters(self, size):
        return InferenceResponse([], {str(i): i for i in range(size // 8)})

    def outputs(self, size):
        return InferenceResponse([Tensor(str(i), "INT8", [0], b"") for i in range(size // 20)])

    def rows(self, size):
        return InferenceResponse([Tensor("large", "FP64", [size, 0], b"")])

    def deep(self, size):
        value = None
        for _ in range(size):
            value = [value]
        return InferenceResponse([], {"deep": value})
"""


def write(root: Path, name: str, **settings: object) -> None:
    folder = root / name
    folder.mkdir()
    (folder / f"{name}_answers.py").write_text(SOURCE)
    implementation = f"{name}_answers:Answers"
    text = json.dumps({"name": name, "implementation": implementation, **settings})
    (folder / "model-settings.json").write_text(text)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    write(root, "bounded")
    write(root, "more", max_answer_size=64 * BOUND)
    write_plugin(root, "return data * int(1e6)", name="plugin")
    ports = (*FREE_PORTS, "--grpc-port", "0")
    with serving(root, "--max-answer-size", BOUND, ports=ports) as server:
        yield server
        assert ask(server.http, "GET", "/v2/health/live").status == 200


def asked(server: Server, model: str, kind: str, size: int, verb: str = "infer") -> Answer:
    inputs = request(tensor("kind", "BYTES", [1], [kind]), tensor("size", "INT64", [1], [size]))
    return ask(server.http, "POST", f"/v2/models/{model}/{verb}", inputs)


@pytest.mark.parametrize("kind", ["numbers", "text", "texts", "rows"])
def test_an_answer_over_the_bound_is_refused_by_name(server: Server, kind: str) -> None:
    answer = asked(server, "bounded", kind, BOUND + 8)

    assert (answer.status, answer.json["code"]) == (500, "answer_too_large")
    for named in ("'bounded'", "'large'", str(BOUND), "--max-answer-size"):
        assert named in answer.json["error"]


@pytest.mark.parametrize("kind", ["parameters", "outputs", "deep"])
def test_an_answer_that_takes_long_to_describe_is_refused(server: Server, kind: str) -> None:
    answer = asked(server, "more", kind, 16 * BOUND if kind != "deep" else 100_000)

    assert answer.status == 500
    assert answer.json["code"] in ("answer_too_large", "bad_model_output")


def test_a_model_can_have_a_bound_of_its_own(server: Server) -> None:
    answer = asked(server, "more", "numbers", 2 * BOUND)

    large = answer.json["outputs"][1]
    assert large["data"] == list(range(BOUND // 4))


def test_a_piece_over_the_bound_ends_its_stream(server: Server) -> None:
    answer = asked(server, "bounded", "numbers", BOUND + 8, "infer_stream")

    assert b"--max-answer-size" in answer.body.split(b"event: error")[1]


def test_the_body_of_a_plugin_over_the_bound_is_refused(server: Server) -> None:
    headers = {"Content-Type": "text/plain"}
    answer = ask(server.http, "POST", "/v2/models/plugin/raw", b"abc", headers)

    assert (answer.status, answer.json["code"]) == (500, "answer_too_large")


def over_grpc(server: Server, model: str, size: int) -> pb.ModelInferResponse:
    message = pb.ModelInferRequest(model_name=model)
    kind = message.inputs.add(name="kind", datatype="BYTES", shape=[1])
    kind.contents.bytes_contents.append(b"numbers")
    count = message.inputs.add(name="size", datatype="INT64", shape=[1])
    count.contents.int64_contents.append(size)
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.announced["grpc"], options) as channel:
        method = channel.unary_unary(f"/{GRPC_SERVICE}/ModelInfer")
        return pb.ModelInferResponse.FromString(method(message.SerializeToString(), timeout=60))


def test_over_grpc_too_answers_are_bounded(server: Server) -> None:
    with pytest.raises(grpc.RpcError, match="--max-answer-size") as refused:
        over_grpc(server, "bounded", BOUND + 8)

    assert refused.value.code() is grpc.StatusCode.INTERNAL


def test_a_large_answer_over_grpc_is_whole(server: Server) -> None:
    data = over_grpc(server, "bounded", BOUND - 8).outputs[1].contents.fp64_contents

    assert np.array_equal(data, np.arange(BOUND // 8 - 1))


def test_an_answer_for_which_there_is_no_memory_is_refused(tmp_path: Path) -> None:
    size = 300_000_000
    write(tmp_path, "large")
    with serving(tmp_path, "--max-answer-size", 2 * size) as server:
        assert asked(server, "large", "text", 100).status == 200
        mapped = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[0])
        limit = mapped * resource.getpagesize() + size // 2
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, (limit, limit))
        refused = asked(server, "large", "text", size)

        assert (refused.status, refused.json["code"]) == (503, "overloaded")
        assert asked(server, "large", "text", 100).status == 200
        assert ask(server.http, "GET", "/v2/health/live").status == 200
