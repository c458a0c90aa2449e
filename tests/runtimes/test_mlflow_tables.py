"""The DataFrame that a model gets from a table: its index and dtypes, beside MLflow's own."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest

from headrace.errors import InvalidInput
from headrace.protocol.mlflow import scoring
from headrace.protocol.mlflow.signature import Signature
from headrace.runtimes import create
from headrace.settings import ModelSettings

mlflow = pytest.importorskip("mlflow")
server = pytest.importorskip("mlflow.pyfunc.scoring_server")
pytestmark = pytest.mark.filterwarnings("ignore")

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
TABLE = pd.DataFrame({"who": ["x", "y"], "size": [1.5, 2.5], "count": [1, 2], "on": [True, False]})


class Seen(mlflow.pyfunc.PythonModel):
    """Answers what it was given: the labels of the rows, the dtypes, and the cells."""

    def predict(self, context, model_input, params=None):
        cells = {name: [repr(cell) for cell in model_input[name]] for name in model_input}
        labels = [repr(label) for label in model_input.index]
        dtypes = {name: str(dtype) for name, dtype in model_input.dtypes.items()}
        return json.dumps([str(model_input.index.dtype), labels, dtypes, cells])


def saved(folder, example):
    signature = None if example is None else mlflow.models.infer_signature(example)
    mlflow.pyfunc.save_model(
        str(folder), python_model=Seen(), signature=signature, pip_requirements=["numpy"]
    )
    runtime = create(ModelSettings("m", "mlflow", uri=str(folder)))
    runtime.load()
    return runtime, mlflow.pyfunc.load_model(str(folder))


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("typed") / "m", TABLE)


@pytest.fixture(scope="module")
def untyped(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("untyped") / "m", None)


@pytest.fixture(scope="module")
def doubles(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("doubles") / "m", TABLE[["size"]])


def ours(runtime, body, media=JSON):
    raw = runtime.metadata().signature
    request = scoring.decode(body, media, Signature.parse(raw) if raw else None).request
    return json.loads(json.loads(scoring.encode(runtime.infer(request)))["predictions"])


def theirs(model, body, media=JSON):
    data = body if media == PARQUET else body.decode()
    answer = server.invocations(data, media, model, model.metadata.get_input_schema())
    return json.loads(json.loads(answer.response)["predictions"])


def split(table, **changes):
    return json.dumps({"dataframe_split": {**table.to_dict(orient="split"), **changes}}).encode()


INDEXES = [
    pytest.param(["2024-05-07", "2024-05-08"], id="dates"),
    pytest.param([7, 5], id="numbers"),
    pytest.param([1, 0], id="numbers in another order"),
    pytest.param([0.5, 1.5], id="fractions"),
    pytest.param([None, "a"], id="null"),
    pytest.param([3, 3], id="the same label twice"),
]


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("kind", ["typed", "untyped"])
def test_the_index_arrives_as_mlflow_delivers_it(kind, index, request):
    runtime, model = request.getfixturevalue(kind)
    body = split(TABLE, index=index)

    assert ours(runtime, body) == theirs(model, body)


@pytest.mark.parametrize("index", INDEXES)
def test_the_index_of_a_table_of_doubles_arrives(index, doubles):
    runtime, model = doubles
    body = split(TABLE[["size"]], index=index)

    assert ours(runtime, body) == theirs(model, body)


@pytest.mark.parametrize("kind", ["typed", "untyped", "doubles"])
@pytest.mark.parametrize("index", [[], ["a"], [0, 1, 2], "ab", {"0": 1}])
def test_an_index_of_another_length_than_the_data_is_refused(kind, index, request):
    runtime, _ = request.getfixturevalue(kind)
    table = TABLE[["size"]] if kind == "doubles" else TABLE

    with pytest.raises(InvalidInput, match="'index' must be a list of 2 labels"):
        ours(runtime, split(table, index=index))


def test_an_index_does_not_switch_off_the_check_of_the_columns(typed):
    with pytest.raises(InvalidInput, match="missing column 'who'"):
        ours(typed[0], split(TABLE.drop(columns="who"), index=["a", "b"]))


def test_the_usual_numbers_need_no_dataframe_to_be_read():
    signature = Signature.parse(mlflow.models.infer_signature(TABLE).to_dict())
    names = [t.name for t in scoring.decode(split(TABLE), JSON, signature).request.inputs]

    assert names == list(TABLE)


@pytest.mark.parametrize("kind", ["typed", "untyped"])
def test_the_index_of_a_parquet_file_arrives(kind, request):
    runtime, model = request.getfixturevalue(kind)
    file = io.BytesIO()
    TABLE.set_index(pd.to_datetime(["2024-05-07", "2024-05-08"])).to_parquet(file)

    assert ours(runtime, file.getvalue(), PARQUET) == theirs(model, file.getvalue(), PARQUET)


FILES = {
    "plain": TABLE.to_csv(index=False),
    "numbers as text": "who,size,count,on\n01,1,1,True\n1.50,2,2,False\n",
    "words for missing": "who,size,count,on\nNA,1,1,True\nnull,2,2,False\n",
    "missing text": 'who,size,count,on\n"",1,1,True\n,,2,False\n',
    "another order": "on,count,size,who\nTrue,1,1.5,x\n",
    "no rows": "who,size,count,on\n",
}


@pytest.mark.parametrize("name", FILES)
def test_columns_of_a_csv_file_have_the_dtypes_that_mlflow_gives(name, typed):
    runtime, model = typed
    body = FILES[name].encode()

    assert ours(runtime, body, CSV) == theirs(model, body, CSV)


@pytest.mark.parametrize("form", ["dataframe_records", "inputs", "instances"])
def test_columns_of_json_have_the_dtypes_that_mlflow_gives(form, typed):
    runtime, model = typed
    rows = TABLE.to_dict(orient="list" if form == "inputs" else "records")
    body = json.dumps({form: rows}).encode()

    assert ours(runtime, body) == theirs(model, body)


@pytest.mark.parametrize("who", [["x", None], [None, None]])
def test_missing_text_is_missing_in_the_way_that_mlflow_says_it(who, typed):
    runtime, model = typed
    body = split(TABLE, data=[[cell, 1.5, 1, True] for cell in who])

    assert ours(runtime, body) == theirs(model, body)


def test_null_beside_numbers_is_nan_also_where_a_text_is_null(typed):
    body = json.dumps(
        {"inputs": {"who": ["x", None], "size": [1, None], "count": [1, 2], "on": [True, False]}}
    )
    *_, cells = ours(typed[0], body.encode())

    assert cells["size"] == ["1.0", "nan"]


def test_rows_of_a_model_without_an_index_are_counted(typed):
    labels = ours(typed[0], split(TABLE))[1]

    assert labels == [repr(number) for number in np.arange(2).tolist()]
