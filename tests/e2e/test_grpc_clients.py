"""gRPC clients that others wrote: Triton's and KServe's."""

from __future__ import annotations

import json

import mlflow
import numpy as np
import pandas as pd
import pytest

from support.asking import ask, request, tensor
from support.clients import TEST_TIMEOUT, environment, run_script
from support.serving import serving
from support.wine import save_mlflow, wines

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore"),
    # The first test to need it builds the environment of the client.
    pytest.mark.timeout(TEST_TIMEOUT),
]

ECHO = """
from headrace.model import InferenceRequest, InferenceResponse, Model

class Echo(Model):
    def predict(self, request: InferenceRequest) -> InferenceResponse:
        return InferenceResponse(request.inputs, request.parameters)
"""
MISSING = request(tensor("alcohol", "FP64", [1], [9.5]))
UNKNOWN = request(tensor("x", "FP64", [1], [1.0]))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    save_mlflow(root / "wine")
    settings = {"name": "wine", "implementation": "mlserver_mlflow.MLflowRuntime"}
    (root / "wine/model-settings.json").write_text(json.dumps(settings))
    (root / "echo").mkdir()
    (root / "echo/echo.py").write_text(ECHO)
    settings = {"name": "echo", "implementation": "echo:Echo"}
    (root / "echo/model-settings.json").write_text(json.dumps(settings))
    return root


@pytest.fixture(scope="module", params=["--no-native-grpc", "--native-grpc"])
def core(request):
    """Which implementation of HTTP/2 answers the clients."""
    return request.param


@pytest.fixture(scope="module")
def server(models, core):
    with serving(models, core) as server:
        yield server


@pytest.fixture(scope="module")
def triton(server):
    python = environment("tritonclient-grpc")
    return run_script(python, "triton_grpc.py", server.announced["grpc"])


@pytest.fixture(scope="module")
def kserve(server):
    python = environment("kserve")
    return run_script(python, "kserve_grpc.py", server.announced["grpc"])


def over_rest(server, model, body):
    return ask(server.http, "POST", f"/v2/models/{model}/infer", body).json["error"]


def test_triton_sees_a_live_and_ready_server(triton):
    assert (triton["live"], triton["ready"], triton["model_ready"]) == (True, True, True)


def test_triton_reads_the_metadata(triton):
    assert triton["server"]["name"] == "headrace"
    assert [each["name"] for each in triton["metadata"]["inputs"]] == list(wines())


def test_triton_lists_and_reloads_the_models(triton):
    assert {row["name"]: row["state"] for row in triton["index"]["models"]} == {
        "echo": "READY",
        "wine": "READY",
    }
    assert (triton["unloaded"], triton["loaded"]) == (False, True)


@pytest.mark.parametrize("datatype", ["FP64", "FP32", "FP16", "INT64", "UINT8", "BOOL", "BYTES"])
def test_tensors_of_triton_come_back_the_same(datatype, triton):
    assert triton["echoes"][datatype] is True


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_triton_compresses_its_requests(algorithm, triton):
    assert triton["zipped"][algorithm] is True


def test_parameters_of_triton_arrive(triton):
    assert triton["parameters"] == {"a": 1, "b": "two", "c": True}


def test_triton_gets_the_wine_models_answer(triton, models):
    asked = triton["wine"]
    answer = mlflow.pyfunc.load_model(str(models / "wine")).predict(pd.DataFrame(asked["rows"]))
    assert asked["answer"] == np.asarray(answer).tolist()
    assert (asked["id"], asked["model_name"]) == ("abc", "wine")


@pytest.mark.parametrize(
    ("case", "status", "model", "body"),
    [
        pytest.param("missing columns", "INVALID_ARGUMENT", "wine", MISSING, id="missing columns"),
        pytest.param("unknown model", "NOT_FOUND", "nobody", UNKNOWN, id="unknown model"),
    ],
)
def test_triton_gets_the_same_message_as_over_rest(case, status, model, body, triton, server):
    error = triton["errors"][case]
    assert error["status"] == f"StatusCode.{status}"
    assert error["message"] == over_rest(server, model, body)


def test_triton_gets_an_error_for_what_does_not_exist(triton):
    errors = triton["errors"]
    assert errors["metadata of an unknown model"]["status"] == "StatusCode.NOT_FOUND"
    assert errors["trace settings"]["status"] == "StatusCode.UNIMPLEMENTED"


def test_kserve_sees_a_live_and_ready_server(kserve):
    assert (kserve["live"], kserve["ready"], kserve["model_ready"]) == (True, True, True)


@pytest.mark.parametrize("form", ["typed", "raw"])
@pytest.mark.parametrize("datatype", ["FP64", "INT64", "BOOL"])
def test_tensors_of_kserve_come_back_the_same(datatype, form, kserve):
    assert kserve["echoes"][f"{datatype} {form}"] is True


def test_kserve_gets_its_id_and_the_models_name(kserve):
    assert kserve["answer"] == ["echo", "abc", "x"]


@pytest.mark.parametrize(
    ("case", "code", "model", "body"),
    [
        pytest.param("missing columns", "INVALID_ARGUMENT", "wine", UNKNOWN, id="missing columns"),
        pytest.param("unknown model", "NOT_FOUND", "nobody", UNKNOWN, id="unknown model"),
    ],
)
def test_kserve_gets_the_same_message_as_over_rest(case, code, model, body, kserve, server):
    assert kserve[case]["code"] == code
    assert kserve[case]["message"] == over_rest(server, model, body)
