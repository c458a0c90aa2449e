"""Sources written for MLServer, unedited, behind a real server."""

from __future__ import annotations

import json

import pytest

from support import mlserver_sources as sources
from support.asking import Client, request, tensor
from support.serving import serving

pytestmark = pytest.mark.e2e

BATCHED = """
from mlserver import MLModel
from mlserver.codecs import NumpyCodec

class Runtime(MLModel):
    async def predict(self, payload):
        x = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        return self.encode_response(x * 2)
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """One server with all models; each brings a module of its own."""
    root = tmp_path_factory.mktemp("runtimes")
    sources.write(root / "sum", sources.SUM, parameters={"extra": {"scale": 2}})
    sources.write(root / "upper", sources.UPPER)
    sources.write(root / "raw", sources.RAW)
    sources.write(root / "frame", sources.FRAME)
    sources.write(root / "stream", sources.STREAM)
    sources.write(root / "batched", BATCHED, max_batch_size=8, max_batch_time=0.05)
    with serving(root) as server, Client(server.http) as client:
        yield client


def infer(client, name, body):
    return client.ask("POST", f"/v2/models/{name}/infer", body)


def test_arrays_over_json(client):
    a = tensor("a", "FP32", [1, 2], [1, 2])
    b = tensor("b", "FP32", [1, 2], [0.5, 0.5])

    answer = infer(client, "sum", request(a, b, id="7"))

    assert answer.status == 200
    assert answer.json == {
        "model_name": "sum",
        "id": "7",
        "parameters": {},
        "outputs": [
            {
                "name": "total",
                "datatype": "FP32",
                "shape": [1, 2],
                "parameters": {"content_type": "np"},
                "data": [3.0, 5.0],
            }
        ],
    }


def test_text_over_json(client):
    answer = infer(client, "upper", request(tensor("text", "BYTES", [2], ["a", "é"])))

    assert answer.json["outputs"][0]["data"] == ["A", "É"]


def test_an_unknown_input_is_a_400_that_names_the_known_ones(client):
    answer = infer(client, "upper", request(tensor("texts", "BYTES", [1], ["a"])))

    assert answer.status == 400
    assert "Input 'texts' was not found. Available inputs are 'text'" in answer.json["error"]


def test_parameters_of_the_answer_reach_the_client(client):
    answer = infer(client, "raw", request(tensor("x", "INT64", [2], [4, 5])))

    assert answer.json["parameters"] == {"first": "4"}
    assert answer.json["outputs"][0]["data"] == [5, 6]


def test_a_table_over_invocations(client):
    body = {"dataframe_split": {"columns": ["a", "b", "name"], "data": [[1, 2.5, "x"]]}}

    answer = client.ask("POST", "/v2/models/frame/invocations", body)

    assert answer.json == {"predictions": [{"name": "x", "total": 3.5}]}


def test_a_stream_over_server_sent_events(client):
    body = request(tensor("x", "BYTES", [1], ["to be or"]))

    answer = client.ask("POST", "/v2/models/stream/infer_stream", body)

    events = [line[6:] for line in answer.body.splitlines() if line.startswith(b"data: ")]
    assert [json.loads(event)["outputs"][0]["data"] for event in events] == [["to"], ["be"], ["or"]]


def test_batches_are_split_again(client):
    answer = infer(client, "batched", request(tensor("x", "FP64", [2, 1], [1, 2])))

    assert answer.json["outputs"][0]["data"] == [2.0, 4.0]
