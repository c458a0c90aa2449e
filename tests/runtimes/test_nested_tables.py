"""Models with columns of arrays, objects and maps take what others do, and refuse with a place.

Every request is sent to MLflow's own scoring application as well.
"""

from __future__ import annotations

import io
import json
import re

import pandas as pd
import pytest

from headrace.testing import TestClient

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")

from mlflow.models import ModelSignature  # noqa: E402
from mlflow.pyfunc import scoring_server  # noqa: E402
from mlflow.types.schema import (  # noqa: E402
    AnyType,
    Array,
    ColSpec,
    DataType,
    Map,
    Object,
    Property,
    Schema,
)

PARQUET = "application/vnd.apache.parquet"
TIME = "2024-05-07T01:02:03"
WHO = Object(
    [
        Property("age", DataType.long),
        Property("at", DataType.datetime, required=False),
        Property("small", DataType.integer, required=False),
        Property("tags", Array(DataType.string), required=False),
    ]
)
COLUMNS = [
    ColSpec(Array(DataType.double), "xs"),
    ColSpec(WHO, "who"),
    ColSpec(Map(DataType.double), "rates"),
    ColSpec(AnyType(), "free", required=False),
    ColSpec(DataType.double, "score"),
    ColSpec(DataType.integer, "small"),
    ColSpec(DataType.datetime, "at"),
    ColSpec(DataType.binary, "blob", required=False),
    ColSpec(DataType.string, "city", required=False),
]
ROW = {
    "xs": [1.5, 2.0],
    "who": {"age": 3},
    "rates": {"a": 1.5},
    "score": 1.5,
    "small": 1,
    "at": TIME,
}


class Seen(mlflow.pyfunc.PythonModel):
    """Answers what it got, with the types of the columns."""

    def predict(self, context, model_input, params=None):
        rows = model_input.to_dict("records")
        return [repr(rows), *(f"{name} {kind}" for name, kind in model_input.dtypes.items())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    signature = ModelSignature(Schema(COLUMNS))
    for name in ("nested", "strict"):
        mlflow.pyfunc.save_model(
            str(root / name), python_model=Seen(), signature=signature, pip_requirements=["mlflow"]
        )
        settings = {"name": name, "implementation": "mlflow"}
        if name == "strict":
            settings["scoring"] = "strict"
        (root / name / "model-settings.json").write_text(json.dumps(settings))
    return root


@pytest.fixture(scope="module")
def theirs(folder):
    """What MLflow's scoring server answers to a JSON body."""
    model = mlflow.pyfunc.load_model(str(folder / "nested"))

    def answer(body):
        schema = model.metadata.get_input_schema()
        given = json.dumps(body)
        return json.loads(
            scoring_server.invocations(given, "application/json", model, schema).response
        )

    return answer


@pytest.fixture(scope="module")
def server(folder):
    with TestClient(folder, env_manager="local") as server:
        yield server


def score(server, body, model="nested", media="application/json"):
    data = body if isinstance(body, bytes) else json.dumps(body)
    url = f"/v2/models/{model}/invocations"
    return server.post(url, content=data, headers={"Content-Type": media})


def parquet(row):
    file = io.BytesIO()
    pd.DataFrame([row]).to_parquet(file)
    return file.getvalue()


FORMS = {
    "records": lambda row: {"dataframe_records": [row]},
    "split": lambda row: {"dataframe_split": {"columns": [*row], "data": [[*row.values()]]}},
    "inputs": lambda row: {"inputs": [row]},
    "object": lambda row: {"inputs": row},
}
SAME = {
    "plain": {},
    "text": {"score": "5.1", "small": " 3 "},
    "surplus": {"id": 7},
    "empty": {"xs": []},
    "missing": {"xs": [1.5, None]},
    "free": {"free": [1, "a"]},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("change", SAME.values(), ids=SAME.keys())
def test_what_mlflow_takes_beside_nested_columns_reaches_the_model_alike(
    form, change, server, theirs
):
    body = FORMS[form]({**ROW, **change})

    answer = score(server, body)

    assert answer.status_code == 200, answer.text
    assert answer.json() == theirs(body)


TEXT_IN_PLACE_OF = [{"score": "5.1"}, {"small": "3"}, {"id": 7}]


@pytest.mark.parametrize("change", TEXT_IN_PLACE_OF)
def test_beside_nested_columns_strict_scoring_refuses_text_and_surplus(change, server):
    answer = score(server, {"dataframe_records": [{**ROW, **change}]}, "strict")
    assert answer.status_code == 400
    assert f"'{next(iter(change))}'" in answer.json()["message"]


LOSSLESS = {
    "zone": ({"at": "2024-05-07T03:02:03+02:00"}, {"at": TIME}),
    "instant": ({"at": f"{TIME}Z"}, {"at": TIME}),
    "whole numbers": ({"xs": [1, 2]}, {"xs": [1.0, 2.0]}),
    "digits": ({"xs": [2**53 + 1], "score": 2**53 + 1}, {"xs": [2.0**53], "score": 2.0**53}),
    "whole number in a map": ({"rates": {"a": 2}}, {"rates": {"a": 2.0}}),
    "integer with a point": ({"who": {"age": 3.0}}, {"who": {"age": 3}}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("sent", "means"), LOSSLESS.values(), ids=LOSSLESS.keys())
def test_what_loses_nothing_means_the_same_beside_nested_columns(form, sent, means, server):
    answer = score(server, FORMS[form]({**ROW, **sent}))
    assert answer.status_code == 200, answer.text
    assert answer.json() == score(server, FORMS[form]({**ROW, **means})).json()


def test_times_and_small_integers_inside_an_object_are_what_they_say(server):
    who = {"age": 3, "at": "2024-05-07T03:02:03+02:00", "small": 5}
    answer = score(server, {"dataframe_records": [{**ROW, "who": who}]})
    assert answer.status_code == 200, answer.text
    assert f"'at': Timestamp('{TIME.replace('T', ' ')}'), 'small': np.int32(5)" in answer.text


def test_an_optional_binary_column_is_base64_null_or_absent_beside_text_numbers(server):
    rows = [{**ROW, "blob": "YQ==", "score": "5.1"}, {**ROW, "blob": None}, ROW]
    answer = score(server, {"dataframe_records": rows})
    assert answer.status_code == 200, answer.text
    seen = answer.json()["predictions"][0]
    assert re.findall(r"'blob': ([^,}]+)", seen) == ["b'a'", "None", "None"]
    assert re.findall(r"'score': ([^,}]+)", seen) == ["5.1", "1.5", "1.5"]


@pytest.mark.parametrize("form", ["records", "inputs"])
def test_rows_keep_32_bit_integers(form, server):
    answer = score(server, FORMS[form](ROW))
    assert "small int32" in answer.json()["predictions"]


def plain_signature():
    return ModelSignature(
        Schema([ColSpec(AnyType(), "free", required=False), *COLUMNS[4:7], COLUMNS[7]])
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model that CSV can fill, although one of its columns takes any type."""
    folder = tmp_path_factory.mktemp("files") / "m"
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=Seen(),
        signature=plain_signature(),
        pip_requirements=["mlflow"],
    )
    with TestClient(folder, env_manager="local") as server:
        yield server


def test_csv_has_32_bit_integers_and_zones_beside_a_column_of_any_type(files):
    text = f"score,small,at,blob,id\n5.1,3,{TIME}Z,YQ==,7\n".encode()
    answer = files.post("/invocations", content=text, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 200, answer.text
    seen, *kinds = answer.json()["predictions"]
    assert "'score': 5.1, 'small': 3, 'at': Timestamp('2024-05-07 01:02:03'), 'blob': b'a'" in seen
    assert "small int32" in kinds


def test_parquet_brings_nested_columns(server):
    pytest.importorskip("pyarrow")
    answer = score(server, parquet({**ROW, "score": "5.1"}), media=PARQUET)
    assert answer.status_code == 200, answer.text
    row = {**ROW, "score": 5.1}
    assert answer.json() == score(server, {"inputs": [row]}).json()


def test_the_times_and_integers_of_parquet_are_what_they_say_inside_lists_and_objects(server):
    pytest.importorskip("pyarrow")
    whole = {**ROW, "xs": [1, 2], "who": {"age": 3, "at": pd.Timestamp(TIME)}}
    same = {**whole, "xs": [1.0, 2.0], "who": {"age": 3, "at": TIME}}
    answer = score(server, parquet(whole), media=PARQUET)
    assert answer.status_code == 200, answer.text
    assert answer.json() == score(server, {"inputs": [same]}).json()

    answer = score(server, parquet({**ROW, "xs": [2**53 + 1]}), media=PARQUET)
    assert answer.status_code == 400
    place = "column 'xs', row 0, element 0"
    words = "expected double, got a number that does not convert without loss"
    assert answer.json()["message"] == f"{place}: {words}"


def test_lists_of_times_in_parquet_reach_the_model(tmp_path):
    pytest.importorskip("pyarrow")
    signature = ModelSignature(Schema([ColSpec(Array(DataType.datetime), "at")]))
    options = {"signature": signature, "pip_requirements": ["mlflow"]}
    mlflow.pyfunc.save_model(str(tmp_path / "m"), python_model=Seen(), **options)
    body = parquet({"at": [pd.Timestamp(TIME), None]})
    with TestClient(tmp_path / "m", env_manager="local") as server:
        answer = server.post("/invocations", content=body, headers={"Content-Type": PARQUET})
    assert answer.status_code == 200, answer.text
    seen = answer.json()["predictions"][0]
    assert re.search(rf"array\(\['{TIME}\.000000000',\s+'NaT'\],\s+dtype='datetime64", seen)


def test_lists_nested_too_deep_are_refused(server):
    body = json.dumps({"dataframe_records": [{**ROW, "xs": "deep"}]})
    answer = score(server, body.replace('"deep"', "[" * 900 + "]" * 900).encode())
    assert answer.status_code == 400
    assert "nested too deep" in answer.json()["message"]


REFUSED = [
    ({"score": "high"}, "column 'score', row 1: expected a number (double), got text"),
    ({"small": 1.5}, "column 'small', row 1: expected INT32, got a number that is not whole"),
    ({"small": None}, "column 'small', row 1: expected"),
    ({"at": "soon"}, "column 'at', row 1: expected an ISO 8601 time, got other text"),
    ({"blob": "?"}, "input 'blob', row 1: expected base64, got other text"),
    ({"city": 5}, "column 'city', row 1: expected text (datatype BYTES), got FP64"),
    ({"xs": 5}, "column 'xs', row 1: expected a list (array), got a number"),
    ({"xs": None}, "column 'xs', row 1: expected a list (array), got null"),
    ({"xs": [1.5, "2.5"]}, "column 'xs', row 1, element 1: expected double, got text"),
    ({"xs": [[1.5]]}, "column 'xs', row 1, element 0: expected double, got a list"),
    ({"xs": [10**400]}, "column 'xs', row 1, element 0: expected double, got a number that"),
    ({"who": 5}, "column 'who', row 1: expected an object, got a number"),
    ({"who": {}}, "column 'who', row 1: expected the properties 'age', which are missing"),
    ({"who": {"age": 3, "z": 1}}, "column 'who', row 1: expected the properties 'age', 'at'"),
    ({"who": {"age": "3"}}, "column 'who', row 1, property 'age': expected long, got text"),
    ({"who": {"age": 1.5}}, "column 'who', row 1, property 'age': expected long, got a number"),
    ({"who": {"age": None}}, "column 'who', row 1, property 'age': expected long, got null"),
    ({"who": {"age": 3, "at": "soon"}}, "property 'at': expected an ISO 8601 time, got other"),
    ({"who": {"age": 3, "small": 2**31}}, "property 'small': expected integer, got a number"),
    ({"who": {"age": 3, "tags": ["a", 1]}}, "property 'tags', element 1: expected string, got a"),
    ({"rates": {"a": "1"}}, "column 'rates', row 1, key 'a': expected double, got text"),
    ({"rates": {"a": True}}, "column 'rates', row 1, key 'a': expected double, got true or false"),
    ({"rates": [1]}, "column 'rates', row 1: expected an object (map), got a list"),
]


@pytest.mark.parametrize("key", ["dataframe_records", "inputs"])
@pytest.mark.parametrize(("change", "message"), REFUSED, ids=lambda item: json.dumps(item)[:40])
def test_a_refusal_says_column_row_and_part_and_what_was_expected_and_got(
    key, change, message, server
):
    answer = score(server, {key: [ROW, {**ROW, **change}]})
    assert answer.status_code == 400
    place, _, rest = message.partition(": ")
    said = answer.json()["message"]
    assert said.replace("input 'at'", "column 'at'").find(message) >= 0, (place, rest, said)


def test_a_nested_cell_over_v2_is_refused_with_its_place(server):
    def column(name, datatype, *data):
        return {"name": name, "datatype": datatype, "shape": [2, 1], "data": list(data)}

    inputs = [
        column("xs", "BYTES", "[1.5]", '["a"]'),
        column("who", "BYTES", '{"age": 3}', '{"age": 4}'),
        column("rates", "BYTES", "{}", "{}"),
        column("score", "FP64", 1.5, 2.5),
        column("small", "INT32", 1, 2),
        column("at", "BYTES", TIME, TIME),
    ]
    answer = server.post("/v2/models/nested/infer", json={"inputs": inputs})
    assert answer.status_code == 400
    message = "column 'xs', row 1, element 0: expected double, got text"
    assert answer.json()["error"] == message
    inputs[0] = column("xs", "BYTES", "[1.5]", "[1]")
    answer = server.post("/v2/models/nested/infer", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
