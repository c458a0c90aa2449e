"""`--scoring mlflow` and `--scoring strict`, on the whole server."""

from __future__ import annotations

import base64
import io
import json
from datetime import datetime

import pandas as pd
import pytest

from headrace.testing import TestClient

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")

JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv"}
TIME = "2024-05-07T01:02:03"


class Rows(mlflow.pyfunc.PythonModel):
    """Answers what it got."""

    def predict(self, context, model_input, params=None):
        return [{**row, **(params or {})} for row in model_input.to_dict("records")]


TABLE = pd.DataFrame({"age": [30], "score": [5.1], "city": ["Ulm"]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`people` takes a long, a double and text, and a param; `picky` is the same, but strict."""
    root = tmp_path_factory.mktemp("models")
    options = {"pip_requirements": ["mlflow"], "python_model": Rows()}
    signature = mlflow.models.infer_signature(TABLE, params={"scale": 1.0})
    for name in ("people", "picky"):
        mlflow.pyfunc.save_model(str(root / name), signature=signature, **options)
    mlflow.pyfunc.save_model(str(root / "free"), **options)
    blobs = mlflow.models.infer_signature(pd.DataFrame({"blob": [b"a"]}))
    mlflow.pyfunc.save_model(
        str(root / "blobs"), signature=blobs, python_model=Sizes(), pip_requirements=["mlflow"]
    )
    example = [{"tags": ["a"], "city": "Ulm"}, {"tags": ["b"]}]
    nested = mlflow.models.infer_signature(example)
    mlflow.pyfunc.save_model(str(root / "tagged"), signature=nested, **options)
    rated = mlflow.models.infer_signature(
        [{"tags": ["a"], "score": 1.5, "at": datetime.fromisoformat(TIME)}]
    )
    mlflow.pyfunc.save_model(str(root / "rated"), signature=rated, **options)
    for name in ("people", "picky", "free", "blobs", "tagged", "rated"):
        settings = {"name": name, "implementation": "mlflow"}
        if name == "picky":
            settings["scoring"] = "strict"
        (root / name / "model-settings.json").write_text(json.dumps(settings))
    return root


class Sizes(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [None if blob is None else blob.decode() for blob in model_input["blob"]]


@pytest.fixture(scope="module")
def server(folder):
    with TestClient(folder, env_manager="local") as server:
        yield server


def score(server, body, model="people", headers=JSON):
    data = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return server.post(f"/v2/models/{model}/invocations", content=data, headers=headers)


ROW = {"age": 30, "score": 5.1, "city": "Ulm"}


def parquet(table):
    file = io.BytesIO()
    table.to_parquet(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"dataframe_records": [{**ROW, "id": 7}]}, JSON),
        ({"dataframe_records": [{**ROW, "age": "30", "score": "5.1"}]}, JSON),
        (TABLE.to_csv(), CSV),
        (TABLE.assign(id=7).to_csv(index=False), CSV),
        (parquet(TABLE.assign(id=7)), {"Content-Type": "application/vnd.apache.parquet"}),
        (
            parquet(TABLE.astype({"age": str, "score": str})),
            {"Content-Type": "application/vnd.apache.parquet"},
        ),
    ],
    ids=["id", "text", "CSV with its index", "CSV with id", "Parquet with id", "Parquet of text"],
)
def test_what_mlflow_accepts_is_accepted_unless_scoring_is_strict(body, headers, server):
    answer = score(server, body, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"predictions": [{**ROW, "scale": 1.0}]})
    assert score(server, body, "picky", headers).status_code == 400


@pytest.mark.parametrize("model", ["people", "picky"])
@pytest.mark.parametrize(
    "change", [{"age": 1.5}, {"age": 2**64}, {"age": None}, {"age": "1.5"}, {"score": "high"}]
)
def test_what_would_change_a_value_is_refused_in_both(change, model, server):
    answer = score(server, {"dataframe_records": [{**ROW, **change}]}, model)
    assert answer.status_code == 400
    assert f"'{next(iter(change))}'" in answer.json()["message"]


def test_the_setting_of_the_server_is_for_models_without_one(folder):
    with TestClient(folder / "people", env_manager="local", scoring="strict") as server:
        answer = score(server, {"dataframe_records": [{**ROW, "id": 7}]})
    assert answer.status_code == 400
    assert "surplus column 'id'" in answer.json()["message"]


def test_v2_refuses_surplus_columns_whatever_the_setting(server):
    inputs = [
        {"name": "age", "datatype": "INT64", "shape": [1], "data": [30]},
        {"name": "score", "datatype": "FP64", "shape": [1], "data": [5.1]},
        {"name": "city", "datatype": "BYTES", "shape": [1], "data": ["Ulm"]},
        {"name": "id", "datatype": "INT64", "shape": [1], "data": [7]},
    ]
    answer = server.post("/v2/models/people/infer", json={"inputs": inputs})
    assert answer.status_code == 400
    assert "surplus column 'id'" in answer.json()["error"]


def test_the_predict_api_refuses_surplus_columns_whatever_the_setting(server):
    body = {"instances": [{**ROW, "id": 7}]}
    answer = server.post("/v1/models/people:predict", json=body)
    assert answer.status_code == 400
    assert "surplus column 'id'" in answer.json()["error"]


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "headrace.scoring"]


def test_each_word_is_warned_about_once_and_counted_every_time(folder, caplog):
    with TestClient(folder / "people", env_manager="local") as server:
        for _ in range(2):
            score(server, {"dataframe_records": [{**ROW, "cty": "x"}], "parms": {}})
            score(server, {"dataframe_records": [ROW], "params": {"scael": 2}})
            score(server, TABLE.assign(cty=1, xyz=2).to_csv(index=False), headers=CSV)
        counted = [
            line
            for line in server.get("/metrics").text.splitlines()
            if line.startswith("headrace_passed_over_words_total")
        ]
    assert warnings_of(caplog) == [
        "model 'people' takes no key 'parms': requests are scored without it; "
        "did the caller mean 'params'?",
        "model 'people' takes no column 'cty': requests are scored without it; "
        "did the caller mean 'city'?",
        "model 'people' takes no param 'scael': requests are scored without it; "
        "did the caller mean 'scale'?",
        "model 'people' takes no column 'xyz': requests are scored without it",
    ]
    assert {line.partition('kind="')[2] for line in counted} == {
        'column"' + ',model="people",version=""} 6.0',
        'key"' + ',model="people",version=""} 2.0',
        'param"' + ',model="people",version=""} 2.0',
    }


def test_a_misspelt_key_is_warned_about_where_the_model_has_no_signature(folder, caplog):
    with TestClient(folder / "free", env_manager="local") as server:
        assert score(server, {"dataframe_records": [ROW], "parms": {}}, "free").status_code == 200
    assert len(warnings_of(caplog)) == 1


def test_undeclared_params_are_refused_where_words_are_ours(server):
    body = {"dataframe_records": [ROW], "params": {"scael": 2}}
    answer = score(server, body, "picky")
    assert answer.status_code == 400
    assert "did you mean 'scale'" in answer.json()["message"]
    inputs = [
        {"name": "age", "datatype": "INT64", "shape": [1], "data": [30]},
        {"name": "score", "datatype": "FP64", "shape": [1], "data": [5.1]},
        {"name": "city", "datatype": "BYTES", "shape": [1], "data": ["Ulm"]},
    ]
    body = {"inputs": inputs, "parameters": {"scael": 2}}
    answer = server.post("/v2/models/people/infer", json=body)
    assert answer.status_code == 400
    assert "did you mean 'scale'" in answer.json()["error"]


def test_rows_may_lack_text_and_doubles_but_no_integers(server):
    rows = [ROW, {"age": 31}]
    answer = score(server, {"dataframe_records": rows})
    expected = [{**ROW, "scale": 1.0}, {"age": 31, "score": None, "city": None, "scale": 1.0}]
    assert answer.json() == {"predictions": expected}
    answer = score(server, {"dataframe_records": [ROW, {"score": 1, "city": "Ulm"}]})
    assert (answer.status_code, "'age'" in answer.json()["message"]) == (400, True)


def test_lists_in_a_column_of_text_reach_the_model_unless_scoring_is_strict(server):
    row = {**ROW, "city": ["Ulm"]}
    answer = score(server, {"dataframe_records": [row]})
    assert answer.json() == {"predictions": [{**row, "scale": 1.0}]}
    row["city"] = ["Ulm", "Bonn"]
    assert score(server, {"dataframe_records": [row]}, "picky").status_code == 400


def test_missing_text_beside_nested_columns_is_null(server):
    rows = [{"tags": ["a"], "city": "Ulm"}, {"tags": ["b", "c"]}]
    for body in (
        {"dataframe_records": rows},
        b'{"dataframe_split": {"columns": ["tags", "city"], "data": [[["a"], "Ulm"], '
        b'[["b", "c"], NaN]]}}',
    ):
        answer = score(server, body, "tagged")
        assert answer.json() == {"predictions": [rows[0], {**rows[1], "city": None}]}


@pytest.mark.parametrize("form", ["dataframe_records", "inputs", "instances"])
def test_nan_in_a_column_of_text_is_null_even_alone(form, server):
    body = json.dumps({form: [{**ROW, "city": float("nan")}]})
    answer = score(server, body)
    assert answer.json() == {"predictions": [{**ROW, "city": None, "scale": 1.0}]}


def test_base64_may_have_line_feeds_as_mlflow_writes_it(server):
    long = base64.encodebytes(b"x" * 100).decode()
    assert long.count("\n") == 2
    body = {"dataframe_records": [{"blob": long}, {"blob": None}, {}]}
    answer = score(server, body, "blobs")
    assert answer.json() == {"predictions": ["x" * 100, None, None]}


@pytest.mark.parametrize(
    ("change", "status"),
    [({}, 200), ({"score": "1.5"}, 400), ({"at": f"{TIME}+02:00"}, 400)],
)
def test_beside_nested_columns_text_is_no_number_and_times_have_no_zone(change, status, server):
    row = {"tags": ["a"], "score": 1.5, "at": TIME, **change}

    assert score(server, {"dataframe_records": [row]}, "rated").status_code == status
