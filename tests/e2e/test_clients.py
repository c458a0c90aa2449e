"""Clients that others wrote: Triton's, and the one that comes with MLflow."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from sklearn.linear_model import LinearRegression

from support.asking import ask, request, tensor
from support.clients import TEST_TIMEOUT, environment, run_script
from support.custom import write_model
from support.serving import serving
from support.wine import save_mlflow, wines

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore"),
    # The first test to need it builds the environment of the client.
    pytest.mark.timeout(TEST_TIMEOUT),
]

FORMS = [f"{a} to {b}" for a in ("json", "binary") for b in ("json", "binary")]
# For bytes that are not text: a model that takes the request itself gets its tensors untouched.
BLOBS = """
from headrace.model import InferenceRequest, InferenceResponse, Model

class Blobs(Model):
    def predict(self, request: InferenceRequest) -> InferenceResponse:
        return InferenceResponse(request.inputs)
"""
ONE_COLUMN = request(tensor("alcohol", "FP64", [1], [9.5]))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    save_mlflow(root / "wine")
    settings = {"name": "wine", "implementation": "mlserver_mlflow.MLflowRuntime"}
    (root / "wine/model-settings.json").write_text(json.dumps(settings))
    write_model(root, "return x", name="echo")
    (root / "blobs").mkdir()
    (root / "blobs/blobs.py").write_text(BLOBS)
    settings = {"name": "blobs", "implementation": "blobs:Blobs"}
    (root / "blobs/model-settings.json").write_text(json.dumps(settings))
    return root


@pytest.fixture(scope="module")
def server(models):
    with serving(models) as server:
        yield server


@pytest.fixture(scope="module")
def triton(server):
    python = environment("tritonclient")
    return run_script(python, "triton_http.py", urlsplit(server.http).netloc)


def test_triton_sees_a_live_and_ready_server(triton):
    assert triton["live"] is True
    assert triton["ready"] is True
    assert triton["model_ready"] is True


def test_triton_sees_that_an_unknown_model_is_not_ready(triton):
    assert triton["unknown_ready"] is False


def test_triton_reads_the_servers_metadata(triton):
    assert triton["server"]["name"] == "headrace"
    assert "binary_tensor_data" in triton["server"]["extensions"]


def test_triton_reads_a_models_metadata(triton):
    metadata = triton["metadata"]
    assert (metadata["name"], metadata["platform"]) == ("wine", "mlflow")
    assert [each["name"] for each in metadata["inputs"]] == list(wines())
    assert {each["datatype"] for each in metadata["inputs"]} == {"FP64"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("datatype", ["FP64", "FP32", "INT64", "BYTES"])
def test_tensors_of_triton_come_back_the_same(datatype, form, triton):
    assert triton["echoes"][f"{datatype} {form}"] is True


def test_bytes_that_are_not_text_pass_in_binary_form(triton):
    assert triton["raw_bytes"] is True


@pytest.mark.parametrize("form", ["json", "binary"])
@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_triton_compresses_requests_and_reads_compressed_answers(algorithm, form, triton):
    assert triton["zipped"][f"{algorithm} {form}"] is True


def test_triton_gets_the_wine_models_answer(triton, models):
    asked = triton["wine"]
    answer = mlflow.pyfunc.load_model(str(models / "wine")).predict(pd.DataFrame(asked["rows"]))
    assert asked["answer"] == answer.tolist()
    assert (asked["id"], asked["model_name"]) == ("abc", "wine")


def test_triton_sends_several_requests_at_once(triton):
    assert triton["later"] == [[n, n + 1.0, n + 2.0] for n in range(4)]


@pytest.mark.parametrize(
    ("case", "method", "path", "body"),
    [
        pytest.param("missing columns", "POST", "wine/infer", ONE_COLUMN, id="missing columns"),
        pytest.param("missing columns, binary", "POST", "wine/infer", ONE_COLUMN, id="binary"),
        pytest.param("unknown model", "POST", "nobody/infer", ONE_COLUMN, id="unknown model"),
        pytest.param(
            "metadata of an unknown model", "GET", "nobody", None, id="metadata of unknown model"
        ),
        pytest.param("trace settings", "GET", "wine/trace/setting", None, id="a missing extension"),
    ],
)
def test_the_error_that_triton_raises_has_our_message(case, method, path, body, triton, server):
    ours = ask(server.http, method, f"/v2/models/{path}", body)
    assert ours.status in (400, 404)
    assert triton["errors"][case] == {"message": ours.json["error"], "status": str(ours.status)}


def test_the_error_names_what_is_missing(triton):
    message = triton["errors"]["missing columns"]["message"]
    assert "fixed acidity" in message


# MLflow's client waits for an answer indefinitely.
answers_soon = pytest.mark.timeout(60)


def mlflow_client(server):
    address = urlsplit(server.http)
    return ScoringServerClient(address.hostname, address.port)


def predictions(response):
    return json.loads(response.to_json())["predictions"]


@pytest.fixture(scope="module")
def scoring(models):
    """MLflow's client of a server with one model only, and that model."""
    with serving(models / "wine", "--name", "wine") as server:
        yield mlflow_client(server), mlflow.pyfunc.load_model(str(models / "wine"))


@answers_soon
def test_mlflows_client_waits_for_us(scoring):
    client, _ = scoring
    client.wait_server_ready(timeout=5)


@answers_soon
def test_mlflows_client_reads_a_version(scoring):
    client, _ = scoring
    assert client.get_version() == ask(client.url_prefix, "GET", "/version").body.decode()


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda table: table, id="DataFrame"),
        pytest.param(lambda table: table[list(table)[::-1]], id="columns in another order"),
        pytest.param(lambda table: table.sample(frac=1, random_state=7), id="a shuffled index"),
    ],
)
@answers_soon
def test_mlflows_client_gets_the_answers_of_pyfunc(form, scoring):
    client, model = scoring
    data = form(wines().head(20))
    assert predictions(client.invoke(data)) == model.predict(data).tolist()


@answers_soon
def test_mlflows_client_sends_arrays(tmp_path):
    rows = np.arange(12.0).reshape(3, 4)
    model = LinearRegression().fit(rows, [1.0, 2.0, 4.0])
    options = {"signature": mlflow.models.infer_signature(rows), "pip_requirements": ["numpy"]}
    mlflow.sklearn.save_model(model, str(tmp_path / "m"), **options)
    with serving(tmp_path / "m") as server:
        assert predictions(mlflow_client(server).invoke(rows)) == model.predict(rows).tolist()


@answers_soon
def test_mlflows_client_shows_our_message_when_a_column_is_missing(scoring):
    client, _ = scoring
    with pytest.raises(Exception, match="error code 400.*missing columns 'fixed acidity'"):
        client.invoke(wines()[["alcohol"]])


@answers_soon
def test_mlflows_client_may_send_more_columns_than_the_model_takes(scoring):
    client, model = scoring
    table = wines().head(3).assign(id=[7, 8, 9])
    assert predictions(client.invoke(table)) == model.predict(table).tolist()


@answers_soon
def test_mlflows_client_gets_the_answer_to_params(tmp_path):
    class Scaled(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input["a"].to_numpy() * params["by"]

    table = pd.DataFrame({"a": np.arange(3.0)})
    signature = mlflow.models.infer_signature(table, params={"by": 2.0})
    options = {"signature": signature, "pip_requirements": ["numpy"]}
    mlflow.pyfunc.save_model(str(tmp_path / "m"), python_model=Scaled(), **options)
    with serving(tmp_path / "m") as server:
        client = mlflow_client(server)
        assert predictions(client.invoke(table, params={"by": 0.5})) == [0.0, 0.5, 1.0]
        assert predictions(client.invoke(table)) == [0.0, 2.0, 4.0]
