"""A model named as users of MLServer name it answers in the form that their clients read.

The same model under its own name answers in the shape that it returned: docs/decisions/0024.
"""

from __future__ import annotations

import json

import grpc
import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from headrace.protocol.messages import InferenceResponse
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.mlserver_answers import as_of_mlserver
from headrace.protocol.tensor import Tensor, pack_bytes
from support.asking import Client, request, tensor
from support.serving import serving

NAMES = {"theirs": "mlserver_sklearn.SKLearnModel", "own": "sklearn"}
BODY = request(tensor("x", "FP64", [3, 1], [1, 2, 3]))
CALL = "/inference.GRPCInferenceService/"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    model = LinearRegression().fit(np.arange(4.0)[:, None], np.arange(4.0))
    for name, implementation in NAMES.items():
        (root / name).mkdir()
        joblib.dump(model, root / name / "model.joblib")
        written = {"name": name, "implementation": implementation}
        (root / name / "model-settings.json").write_text(json.dumps(written))
    with serving(root) as server, Client(server.http) as client:
        yield server, client


def over_grpc(server, method, message, answer):
    with grpc.insecure_channel(server.announced["grpc"]) as channel:
        call = channel.unary_unary(CALL + method, type(message).SerializeToString, answer)
        return call(message, timeout=60)


@pytest.mark.e2e
def test_over_rest_it_has_parameters_columns_and_content_types(server):
    answer = server[1].ask("POST", "/v2/models/theirs/infer", BODY).json

    assert answer["parameters"] == {}
    (output,) = answer["outputs"]
    assert (output["shape"], output["parameters"]) == ([3, 1], {"content_type": "np"})
    np.testing.assert_allclose(output["data"], [1, 2, 3])


@pytest.mark.e2e
def test_over_grpc_it_has_columns_and_content_types(server):
    message = pb.ModelInferRequest(model_name="theirs")
    message.inputs.add(name="x", datatype="FP64", shape=[3, 1]).contents.fp64_contents[:] = [
        1,
        2,
        3,
    ]

    found = over_grpc(server[0], "ModelInfer", message, pb.ModelInferResponse.FromString)
    (output,) = found.outputs
    assert (list(output.shape), output.parameters["content_type"].string_param) == ([3, 1], "np")


@pytest.mark.e2e
def test_its_metadata_has_the_shape_of_its_answers(server):
    metadata = server[1].ask("GET", "/v2/models/theirs").json

    assert [output["shape"] for output in metadata["outputs"]] == [[-1, 1]]
    assert "parameters" in metadata


@pytest.mark.e2e
def test_under_its_own_name_it_answers_in_the_shape_that_it_returned(server):
    (output,) = server[1].ask("POST", "/v2/models/own/infer", BODY).json["outputs"]

    assert output["shape"] == [3]
    assert "parameters" not in output


@pytest.mark.e2e
@pytest.mark.parametrize("path", ["invocations", "predict_v1"])
def test_other_protocols_answer_as_ever(server, path):
    bodies = {
        "invocations": ("/v2/models/theirs/invocations", {"inputs": [[1.0], [2.0]]}),
        "predict_v1": ("/v1/models/theirs:predict", {"instances": [[1.0], [2.0]]}),
    }

    answer = server[1].ask("POST", *bodies[path])
    np.testing.assert_allclose(answer.json["predictions"], [1, 2])


@pytest.mark.e2e
def test_metadata_of_an_unloaded_model_is_an_error_over_every_transport(server):
    client = server[1]
    client.ask("POST", "/v2/repository/models/own/unload")

    refused = client.ask("GET", "/v2/models/own")
    assert (refused.status, refused.json["code"]) == (503, "model_unavailable")
    message = pb.ModelMetadataRequest(name="own")
    with pytest.raises(grpc.RpcError, match="model 'own' is not ready: unloaded") as caught:
        over_grpc(server[0], "ModelMetadata", message, pb.ModelMetadataResponse.FromString)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION

    assert client.ask("POST", "/v2/repository/models/own/load").status == 200
    assert client.ask("GET", "/v2/models/own").status == 200


@pytest.mark.parametrize(("content_typed", "kept"), [(True, {"content_type": "np"}), (False, {})])
def test_only_runtimes_that_name_it_in_mlserver_have_a_content_type_of_the_whole(
    content_typed, kept
):
    response = InferenceResponse([], {"content_type": "np", "headers": {"a": "b"}})

    found = as_of_mlserver(response, content_typed).parameters
    assert found == {"headers": {"a": "b"}, **kept}


def answered(kind, *tensors):
    found = as_of_mlserver(InferenceResponse(list(tensors), {"content_type": kind}), True)
    return [(list(output.shape), output.parameters) for output in found.outputs]


def test_text_and_what_has_a_content_type_keep_theirs():
    texts = Tensor("a", "BYTES", [2], pack_bytes([b"x", b"y"]))
    cells = Tensor("b", "BYTES", [1, 1], pack_bytes([b"{}"]), {"content_type": "pd_json"})

    assert answered("dict", texts, cells) == [
        ([2, 1], {"content_type": "str"}),
        ([1, 1], {"content_type": "pd_json"}),
    ]


def test_columns_of_a_table_and_single_values_have_the_shapes_of_mlserver():
    numbers = Tensor("a", "INT8", [2], b"\1\2")

    assert answered("pd", numbers) == [([2, 1], None)]
    assert answered("np", Tensor("a", "INT8", [], b"\1")) == [([1], {"content_type": "np"})]
