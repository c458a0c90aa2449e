"""Folders of MLflow models, old and new, are served and answer as MLflow itself does."""

from __future__ import annotations

import io
import json
from functools import cache

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

from support.asking import ask
from support.mlflow_models import MIXED, WINE_MODELS, save_all
from support.serving import serving
from support.wine import columns, wines

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

WINES = wines().head(5)
CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    save_all(root)
    return root


@pytest.fixture(scope="module")
def server(root):
    with serving(root, timeout=100) as server:
        yield server


@cache
def load(folder):
    return mlflow.pyfunc.load_model(str(folder))


def score(server, name, body, media="application/json"):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": media}
    return ask(server.http, "POST", f"/v2/models/{name}/invocations", body, headers)


def mlflows(folder, body, media="application/json"):
    """The answer that MLflow's scoring server gives to the same body."""
    model = load(folder)
    text = body if isinstance(body, bytes) else json.dumps(body)
    schema = model.metadata.get_input_schema()
    return json.loads(scoring_server.invocations(text, media, model, schema).response)


def split(table):
    return {"dataframe_split": json.loads(table.to_json(orient="split", date_format="iso"))}


def records(table):
    return json.loads(table.to_json(orient="records", date_format="iso"))


def parquet(table):
    buffer = io.BytesIO()
    table.to_parquet(buffer)
    return buffer.getvalue()


def csv(table):
    return table.to_csv(index=False).encode()


@pytest.mark.parametrize("name", WINE_MODELS)
def test_scored_wines_equal_pyfunc(name, server, root):
    answer = score(server, name, split(WINES))
    assert answer.status == 200, answer.body
    predicted = np.asarray(load(root / name).predict(WINES))
    assert _flat(answer.json["predictions"], predicted.dtype) == predicted.ravel().tobytes()


def _flat(predictions, dtype):
    """The bytes of the numbers, which JSON may hold as records of one column."""
    cells = [next(iter(p.values())) if isinstance(p, dict) else p for p in predictions]
    return np.array(cells, dtype).tobytes()


@pytest.mark.parametrize("name", WINE_MODELS)
def test_wines_as_columns_of_the_open_protocol_equal_pyfunc(name, server, root):
    asked = {"inputs": columns(WINES)}
    answer = ask(server.http, "POST", f"/v2/models/{name}/infer", asked)
    assert answer.status == 200, answer.body
    (output,) = answer.json["outputs"]
    predicted = np.asarray(load(root / name).predict(WINES))
    assert np.array(output["data"], predicted.dtype).tobytes() == predicted.ravel().tobytes()


FORMS = {
    "dataframe_split": split(WINES),
    "split without index": {"dataframe_split": WINES.to_dict(orient="split", index=False)},
    "dataframe_records": {"dataframe_records": records(WINES)},
    "instances": {"instances": records(WINES)},
    "inputs of columns": {"inputs": WINES.to_dict(orient="list")},
    "inputs of records": {"inputs": records(WINES)},
    "CSV": (csv(WINES), CSV),
    "CSV with a charset": (csv(WINES), "text/csv; charset=utf-8"),
    "Parquet": (parquet(WINES), PARQUET),
}
MATRIX = WINES.to_numpy().tolist()


@pytest.mark.parametrize("name", ["skops", "xgbregressor", "booster", "python", "mlflow-2"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_gets_the_answer_of_mlflow(form, name, server, root):
    body, media = form if isinstance(form, tuple) else (form, "application/json")
    answer = score(server, name, body, media)
    assert answer.status == 200, answer.body
    assert answer.json == mlflows(root / name, body, media)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(FORMS["dataframe_split"], id="dataframe_split"),
        pytest.param(FORMS["dataframe_records"], id="dataframe_records"),
        pytest.param(FORMS["CSV"], id="CSV"),
        pytest.param(FORMS["Parquet"], id="Parquet"),
        pytest.param({"inputs": MATRIX}, id="inputs"),
        pytest.param({"instances": MATRIX}, id="instances"),
    ],
)
@pytest.mark.parametrize("name", ["unsigned", "mlflow-1"])
def test_forms_without_a_signature_get_the_answer_of_mlflow(form, name, server, root):
    body, media = form if isinstance(form, tuple) else (form, "application/json")
    answer = score(server, name, body, media)
    assert answer.status == 200, answer.body
    assert answer.json == mlflows(root / name, body, media)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"inputs": MATRIX}, id="inputs"),
        pytest.param({"instances": MATRIX}, id="instances"),
        pytest.param({"inputs": MATRIX[:1]}, id="one row"),
    ],
)
def test_arrays_get_the_answer_of_mlflow(body, server, root):
    assert score(server, "array", body).json == mlflows(root / "array", body)


@pytest.mark.parametrize(
    ("body", "media"),
    [
        pytest.param(split(MIXED), "application/json", id="dataframe_split"),
        pytest.param({"dataframe_records": records(MIXED)}, "application/json", id="records"),
        pytest.param(parquet(MIXED), PARQUET, id="Parquet"),
    ],
)
def test_text_flags_and_times_reach_the_model_as_from_mlflow(body, media, server, root):
    answer = score(server, "mixed", body, media)
    assert answer.status == 200, answer.body
    assert answer.json == mlflows(root / "mixed", body, media)


def test_times_in_csv_reach_the_model_though_mlflow_refuses_them(server, root):
    table = MIXED.assign(name=["a", "b"])
    answer = score(server, "mixed", csv(table), CSV)
    expected = mlflows(root / "mixed", split(table))
    for row in expected["predictions"]:
        # MLflow gives text in CSV this dtype, see tests/runtimes/test_mlflow_tables.py.
        row["name is"] = "object"
    assert answer.json == expected
    with pytest.raises(MlflowException, match="parse_dates"):
        mlflows(root / "mixed", csv(table), CSV)


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"by": 0.5}, id="given"),
        pytest.param({}, id="left out"),
        pytest.param({"by": 3}, id="an integer for a double"),
        pytest.param({"by": 0.5, "unknown": 1}, id="an unknown one"),
    ],
)
def test_params_have_the_effect_they_have_in_mlflow(params, server, root):
    body = {**split(WINES), "params": params}
    answer = score(server, "python", body)
    assert answer.status == 200, answer.body
    assert answer.json == mlflows(root / "python", body)


def test_a_chat_is_answered_without_a_wrapper(server, root):
    body = {"messages": [{"role": "user", "content": "Which wine?"}], "temperature": 0.5}
    answer = score(server, "chat", body)
    assert answer.json == mlflows(root / "chat", body)
    assert answer.json["said"] == "Which wine?"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(split(WINES.drop(columns="pH")), id="a missing column"),
        pytest.param(split(WINES.assign(pH="text")), id="text for a double"),
        pytest.param({**split(WINES), "instances": MATRIX}, id="two forms"),
        pytest.param({"rows": MATRIX}, id="no form"),
        pytest.param(b"{", id="not JSON"),
        pytest.param({"dataframe_split": {"columns": ["a", "b"], "data": [[1]]}}, id="ragged"),
        pytest.param({**split(WINES), "params": {"by": "text"}}, id="text for a param"),
    ],
)
def test_what_mlflow_refuses_is_refused_in_its_form(body, server, root):
    with pytest.raises(MlflowException) as refused:
        mlflows(root / "python", body)
    answer = score(server, "python", body)
    assert answer.status == refused.value.get_http_status_code() == 400
    assert {"error_code", "message"} <= answer.json.keys()


@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_health_routes_answer_one_newline(path, server):
    answer = ask(server.http, "GET", path)
    assert (answer.status, answer.body) == (200, b"\n")
    assert answer.headers["content-type"] == "application/json"


def test_version_is_bare_text(server):
    answer = ask(server.http, "GET", "/version")
    assert answer.status == 200
    assert answer.body.decode()[0].isdigit()


@pytest.mark.parametrize("name", ["skops", "python", "mixed"])
def test_metadata_lists_the_columns_of_the_signature(name, server, root):
    metadata = ask(server.http, "GET", f"/v2/models/{name}").json
    schema = load(root / name).metadata.get_input_schema()
    assert [row["name"] for row in metadata["inputs"]] == schema.input_names()
