"""`--scoring mlflow` and `--scoring strict`, on the whole server."""

from __future__ import annotations

import base64
import io
import json

import pandas as pd
import pytest

from headrace.testing import TestClient

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")

JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv"}
PARQUET = "application/vnd.apache.parquet"


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
    for name in ("people", "picky", "free", "blobs", "tagged"):
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
        (parquet(TABLE.assign(id=7)), {"Content-Type": PARQUET}),
        (
            parquet(TABLE.astype({"age": str, "score": str})),
            {"Content-Type": PARQUET},
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


@pytest.mark.parametrize("model", ["people", "picky", "free"])
@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("age,score,city\n5,30,5.1,Ulm\n", "row 0 (line 2): expected 3 values"),
        ("age,score,city\n0,30,5.1,Ulm\n1,30,5.1,Ulm\n", "row 0 (line 2): expected 3 values"),
        ("age,score,city\n30,5.1,Ulm\n30,5.1,Ulm,\n", "row 1 (line 3): expected 3 values"),
    ],
    ids=["a label", "labels that count up", "a comma at the end"],
)
def test_a_csv_row_with_a_value_too_many_is_refused_not_shifted(body, place, model, server):
    answer = score(server, body, model, CSV)

    assert answer.status_code == 400
    assert answer.json()["message"].startswith(f"the CSV table: {place}, one for each column")
    assert answer.json()["message"].endswith("got 4")


def test_values_that_a_csv_row_lacks_are_missing_in_its_last_columns(server):
    short = score(server, "age,score,city\n30\n31,5.1,Ulm\n", headers=CSV)
    assert short.json()["predictions"] == [
        {"age": 30, "score": None, "city": None, "scale": 1.0},
        {**ROW, "age": 31, "scale": 1.0},
    ]

    without = score(server, "city,score,age\nUlm,5.1\n", headers=CSV)
    assert without.status_code == 400
    assert "column 'age'" in without.json()["message"]


LARGE = 2**53 + 1


@pytest.mark.parametrize("model", ["people", "picky"])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"dataframe_records": [{**ROW, "score": LARGE}]}, JSON),
        ({"dataframe_split": {"columns": list(ROW), "data": [[30, LARGE, "Ulm"]]}}, JSON),
        ({"dataframe_split": {"columns": list(ROW), "data": [[30, LARGE, "Ulm"]], "index": [7]}},
         JSON),
        ({"inputs": {"age": [30], "score": [LARGE], "city": ["Ulm"]}}, JSON),
        (f"age,score,city\n30,{LARGE},Ulm\n", CSV),
        (f"age,score,city\n30,{LARGE}.0,Ulm\n", CSV),
    ],
    ids=["records", "split", "split with labels", "inputs", "CSV", "CSV with a point"],
)  # fmt: skip
def test_digits_for_a_double_column_are_the_nearest_double(body, headers, model, server):
    answer = score(server, body, model, headers)

    assert answer.json() == {"predictions": [{**ROW, "score": float(2**53), "scale": 1.0}]}


def test_digits_beside_missing_text_are_the_nearest_double_as_well(server):
    rows = [{**ROW, "score": LARGE}, {**ROW, "score": 10**20, "city": None}]
    for body in (
        {"dataframe_records": rows},
        {"inputs": {name: [row[name] for row in rows] for name in ROW}},
    ):
        answers = score(server, body, "picky").json()["predictions"]
        assert [row["score"] for row in answers] == [2.0**53, 1e20]


@pytest.mark.parametrize("column", ["score", "age"])
def test_an_integer_with_a_type_is_exact_or_refused(column, server):
    changed = TABLE.assign(**{column: pd.Series([LARGE], dtype="int64")})
    answer = score(server, parquet(changed), headers={"Content-Type": PARQUET})
    inputs = [
        {"name": "age", "datatype": "INT64", "shape": [1], "data": [int(changed["age"][0])]},
        {"name": "score", "datatype": "FP64", "shape": [1], "data": [5.1]},
        {"name": "city", "datatype": "BYTES", "shape": [1], "data": ["Ulm"]},
    ]
    if column == "score":
        inputs[1] |= {"datatype": "INT64", "data": [LARGE]}
    over_v2 = server.post("/v2/models/people/infer", json={"inputs": inputs})

    if column == "age":
        assert answer.json()["predictions"][0]["age"] == LARGE
        assert over_v2.status_code == 200
    else:
        assert "row 0: expected FP64, got a whole number of more digits" in answer.json()["message"]
        assert "row 0: expected FP64, got a whole number of more digits" in over_v2.json()["error"]


def test_digits_for_fp64_over_v2_are_the_nearest_double(server):
    inputs = [
        {"name": "age", "datatype": "INT64", "shape": [1], "data": [LARGE]},
        {"name": "score", "datatype": "FP64", "shape": [1], "data": [LARGE]},
        {"name": "city", "datatype": "BYTES", "shape": [1], "data": ["Ulm"]},
    ]
    answer = server.post("/v2/models/people/infer", json={"inputs": inputs})
    outputs = json.dumps(answer.json()["outputs"])

    assert answer.status_code == 200
    assert f"{2**53}" in outputs
    assert str(LARGE) in outputs


@pytest.mark.parametrize("model", ["people", "picky", "free"])
def test_rows_with_keys_of_their_own_do_not_make_a_table_of_all_of_them(model, server):
    rows = [{**ROW, "score": None, "city": None, f"key {i}": 1} for i in range(5000)]
    answer = score(server, {"dataframe_records": rows}, model)

    if model == "people":
        assert len(answer.json()["predictions"]) == 5000
    else:
        words = {"picky": "surplus columns 'key 0'", "free": "5,000 objects with 5,003 different"}
        assert answer.status_code == 400
        assert words[model] in answer.json()["message"]


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
