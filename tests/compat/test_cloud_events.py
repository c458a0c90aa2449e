"""The CloudEvents headers of MLServer: on answers of its models, and in `mlserver.cloudevents`."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest

from headrace import Model
from headrace.compat.mlserver import ModelSettings, Settings, types
from headrace.compat.mlserver.cloudevents import (
    CLOUDEVENTS_HEADER_MODEL_ID,
    CLOUDEVENTS_HEADER_TYPE,
    CloudEventsMiddleware,
    CloudEventsTypes,
)
from headrace.compat.mlserver.middleware import InferenceMiddlewares
from headrace.protocol import cloud_events
from headrace.protocol.cloud_events import CloudEvents
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.testing import TestClient
from support.serving import serving

BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
INFER = "/v2/models/theirs/infer"
# As MLServer 1.7.1 answers, whose server has another name.
FIXED = {
    "ce-specversion": "0.3",
    "ce-source": "io.seldon.serving.deployment.headrace",
    "ce-type": "io.seldon.serving.inference.response",
    "ce-modelid": "theirs",
    "ce-inferenceservicename": "headrace",
    "ce-endpoint": "theirs",
}
RUNTIME = """
from mlserver import MLModel, types
from mlserver.cloudevents import CLOUDEVENTS_HEADER_TYPE
from mlserver.codecs import StringCodec

class Runtime(MLModel):
    async def predict(self, payload):
        kind = payload.parameters.headers[CLOUDEVENTS_HEADER_TYPE]
        return types.InferenceResponse(
            model_name=self.name,
            parameters=types.Parameters(headers={"Ce-Type": "mine", "X-Own": "kept"}),
            outputs=[StringCodec.encode_output("kind", [kind])],
        )
"""


class Echo(Model):
    def predict(self, x: list[str]) -> list[str]:
        return x


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    settings = {"name": "theirs", "implementation": "runtime.Runtime"}
    (tmp_path / "model-settings.json").write_text(json.dumps(settings))
    (tmp_path / "runtime.py").write_text(RUNTIME)
    return tmp_path


def events(fields: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if name.startswith("ce-")}


def test_an_answer_of_a_runtime_of_mlserver_has_the_headers_of_mlserver(folder: Path) -> None:
    with TestClient(folder) as client:
        answer = client.post(INFER, json={**BODY, "id": "my-id"})

    assert events(dict(answer.headers)) == {**FIXED, "ce-id": "my-id", "ce-requestid": "my-id"}
    # Once, although the runtime sets one of them too; what else it sets is sent.
    assert answer.headers.get_list("ce-type") == [FIXED["ce-type"]]
    assert answer.headers["x-own"] == "kept"


def test_without_an_id_of_its_own_an_answer_has_the_one_of_its_body(folder: Path) -> None:
    with TestClient(folder) as client:
        answer = client.post(INFER, json=BODY)

    assert answer.headers["ce-id"] == answer.headers["ce-requestid"] == answer.json()["id"]


def test_a_runtime_reads_those_of_the_request(folder: Path) -> None:
    with TestClient(folder) as client:
        answer = client.post(INFER, json=BODY)

    assert answer.json()["outputs"][0]["data"] == ["io.seldon.serving.inference.request"]


def test_models_that_mlserver_never_had_and_errors_have_none(folder: Path) -> None:
    with TestClient(Echo) as client:
        answer = client.post("/v2/models/Echo/infer", json=BODY)
    assert answer.status_code == 200
    assert events(dict(answer.headers)) == {}

    with TestClient(folder) as client:
        refused = client.post(INFER, content=b"{")
    assert (refused.status_code, events(dict(refused.headers))) == (400, {})


@pytest.mark.parametrize(
    ("id", "sent"),
    [("a b", "a%20b"), ("käse", "k%C3%A4se"), ('50%"', '50%"')],
)
def test_an_id_that_is_no_header_is_sent_encoded(folder: Path, id: str, sent: str) -> None:
    with TestClient(folder) as client:
        answer = client.post(INFER, json={**BODY, "id": id})

    assert (answer.json()["id"], answer.headers["ce-id"]) == (id, sent)


def test_no_value_can_begin_another_header() -> None:
    made = CloudEvents("m\r\nx-evil: 1", "server", None)

    fields = made.fields("7\r\nx-evil: 1")
    assert all(b"\n" not in value and b"\r" not in value for _, value in fields)
    assert fields[-1] == (b"ce-requestid", b"7%0D%0Ax-evil:%201")


@pytest.mark.e2e
def test_over_grpc_they_are_trailing_metadata(folder: Path) -> None:
    message = pb.ModelInferRequest(model_name="theirs", id="käse")
    message.inputs.add(name="x", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"a")
    with serving(folder) as server, grpc.insecure_channel(server.announced["grpc"]) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", pb.ModelInferRequest.SerializeToString
        )
        _, call = infer.with_call(message, timeout=60)

    sent = call.trailing_metadata()
    found = events({each.key: each.value for each in sent})
    assert found == {**FIXED, "ce-id": "k%C3%A4se", "ce-requestid": "k%C3%A4se"}
    assert [each.value for each in sent if each.key == "ce-type"] == [FIXED["ce-type"]]
    assert [each.value for each in sent if each.key == "x-own"] == ["kept"]


def test_the_namespace_of_kubernetes_is_in_the_source_and_a_header() -> None:
    found = dict(CloudEvents("m", "server", "models").fields("7"))

    assert found[b"ce-source"] == b"io.seldon.serving.deployment.server.models"
    assert found[b"ce-namespace"] == b"models"


def test_outside_of_kubernetes_there_is_no_namespace(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(cloud_events, "NAMESPACE_FILE", str(tmp_path / "none"))
    assert cloud_events.namespace() is None
    (tmp_path / "none").write_text("models\n")
    assert cloud_events.namespace() == "models"


def test_the_middleware_of_mlserver_puts_them_into_the_parameters() -> None:
    settings = ModelSettings(name="m", implementation="runtime.Runtime")
    middleware = InferenceMiddlewares(CloudEventsMiddleware(Settings()))
    request = types.InferenceRequest(id="7", inputs=[])
    answer = types.InferenceResponse(
        id="7", model_name="m", outputs=[], parameters=types.Parameters(headers={"a": "b"})
    )

    asked = middleware.request_middleware(request, settings).parameters.headers
    answered = middleware.response_middleware(answer, settings).parameters.headers
    assert asked[CLOUDEVENTS_HEADER_TYPE] == CloudEventsTypes.Request.value
    assert answered[CLOUDEVENTS_HEADER_TYPE] == CloudEventsTypes.Response.value
    assert (asked[CLOUDEVENTS_HEADER_MODEL_ID], asked["Ce-Id"], answered["a"]) == ("m", "7", "b")
