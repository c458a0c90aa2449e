from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest

from headrace.codecs.array import array_of
from headrace.errors import InvalidInput
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.mlflow.signature import PASSED_OVER, PAYLOAD, READS, SCORING
from headrace.protocol.tensor import Tensor, pack_bytes
from headrace.runtimes import create
from headrace.settings import ModelSettings

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")


class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        if isinstance(model_input, pd.DataFrame):
            return [repr(model_input.to_dict("list"))]
        return [repr(model_input)]


class Hinted(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str], params=None):
        return [text.upper() for text in model_input]


def serve(folder, example=None, python_model=None, signature=None):
    if example is not None:
        signature = mlflow.models.infer_signature(example)
    mlflow.pyfunc.save_model(
        str(folder / "m"),
        python_model=python_model or Echo(),
        signature=signature,
        pip_requirements=["numpy"],
    )
    runtime = create(ModelSettings("m", "mlflow", uri=str(folder / "m")))
    runtime.load()
    return runtime


def post(runtime, body, media="application/json"):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    payload = Tensor(PAYLOAD, "BYTES", [1], pack_bytes([body]), {"content_type": media})
    (tensor,) = runtime.infer(InferenceRequest([payload], {"content_type": SCORING})).outputs
    return array_of(tensor).tolist()[0]


TYPED = pd.DataFrame(
    {"d": [1.0], "i": np.array([1], np.int32), "s": ["7"], "t": pd.to_datetime(["2020-01-01"])}
)


def test_csv_gets_its_types_from_the_signature(tmp_path):
    runtime = serve(tmp_path, TYPED)
    seen = post(runtime, b"d,i,s,t\n5,3,007,2020-01-02\n", "text/csv")
    assert seen == repr({"d": [5.0], "i": [3], "s": ["007"], "t": [pd.Timestamp("2020-01-02")]})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("d,i,s,t\n1,1.5,a,2020-01-01\n", "column 'i'", id="lossy"),
        pytest.param("d,i,s,t\n1,3000000000,a,2020-01-01\n", "column 'i'", id="overflow"),
        pytest.param("d,i,s\n1,1,a\n", "missing column 't'", id="missing"),
        pytest.param("d,i,s,t,u\n1,1,a,2020-01-01,1\n", "surplus column 'u'", id="surplus"),
        pytest.param("d,i,s,t\nhigh,1,a,2020-01-01\n", "column 'd'", id="text"),
    ],
)
def test_csv_that_does_not_fit_names_the_column(text, complaint, tmp_path):
    runtime = serve(tmp_path, TYPED)
    with pytest.raises(InvalidInput, match=complaint):
        post(runtime, text.encode(), "text/csv")


def test_parquet_conforms_to_the_signature(tmp_path):
    pytest.importorskip("pyarrow")
    file = io.BytesIO()
    TYPED.assign(i=np.int64(4)).to_parquet(file)
    seen = post(serve(tmp_path, TYPED), file.getvalue(), "application/vnd.apache.parquet")
    assert "'i': [4]" in seen


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        pytest.param(
            {"dataframe_split": {"columns": ["a"], "data": [[1]]}}, {"a": [1]}, id="split"
        ),
        pytest.param({"dataframe_records": [{"a": 1}]}, {"a": [1]}, id="records"),
        pytest.param({"inputs": [1, 2]}, np.array([1, 2]), id="inputs list"),
        pytest.param({"inputs": {"a": [1]}}, {"a": np.array([1])}, id="inputs columns"),
        pytest.param({"instances": [{"a": 1}, {"a": 2}]}, {"a": np.array([1, 2])}, id="instances"),
        pytest.param({"messages": [{"role": "user"}]}, {"messages": [{"role": "user"}]}, id="llm"),
    ],
)
def test_without_a_signature_the_model_sees_what_the_form_says(body, seen, tmp_path):
    assert post(serve(tmp_path), body) == repr(seen)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"inputs": [[1], [2, 3]]}, "inputs"),
        ({"inputs": {"a": [1], "b": [1, [2]]}}, "inputs 'b'"),
        ({"instances": [{"a": 1, "b": [1]}, {"a": 1, "b": [1, 2]}]}, "instances 'b'"),
    ],
)
def test_ragged_lists_are_the_callers_fault_without_a_signature(body, where, tmp_path):
    with pytest.raises(InvalidInput, match=f"^{where}: the nested lists differ in length$"):
        post(serve(tmp_path), body)


NESTED = [{"tags": ["a"], "who": {"age": 3}, "n": 1}]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"dataframe_records": NESTED}, id="records"),
        pytest.param({"inputs": NESTED}, id="inputs"),
    ],
)
def test_nested_columns_reach_the_model(body, tmp_path):
    seen = post(serve(tmp_path, NESTED), body)
    assert "'who': [{'age': " in seen
    assert "'n': [1]" in seen


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param({"n": 1.5}, "column 'n', row 0: expected INT64, got a number", id="column"),
        pytest.param({"who": {"age": 2.5}}, "column 'who', row 0, property 'age'", id="property"),
        pytest.param(
            {"who": {"age": 2, "z": 1}},
            "row 0: expected the properties 'age', got 'z'",
            id="surplus",
        ),
        pytest.param({"tags": 5}, "column 'tags', row 0: expected a list", id="array"),
        pytest.param({"n": "x"}, "column 'n', row 0: expected INT64, got text", id="text"),
    ],
)
def test_a_nested_value_that_does_not_fit_is_named_and_not_quoted(change, complaint, tmp_path):
    runtime = serve(tmp_path, NESTED)
    with pytest.raises(InvalidInput, match=complaint) as refused:
        post(runtime, {"dataframe_records": [{**NESTED[0], **change}]})
    assert "DataFrame" not in refused.value.message


def test_a_model_with_type_hints_gets_plain_values(tmp_path):
    runtime = serve(tmp_path, python_model=Hinted())
    assert post(runtime, {"inputs": ["a"]}) == "A"


def test_what_a_type_hint_refuses_is_the_callers_fault(tmp_path):
    runtime = serve(tmp_path, python_model=Hinted())
    with pytest.raises(InvalidInput) as refused:
        post(runtime, {"inputs": [987654]})
    assert "987654" not in refused.value.message


def test_an_error_of_the_model_is_left_as_it_is(tmp_path):
    class Broken(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            raise KeyError("mine")

    runtime = serve(tmp_path, python_model=Broken())
    with pytest.raises(KeyError, match="mine"):
        post(runtime, {"inputs": [1]})


def test_a_csv_header_that_repeats_thousands_of_names_is_refused_before_pandas_numbers_them(
    tmp_path,
):
    runtime = serve(tmp_path, TYPED)
    body = (",".join(["d"] * 100_000) + "\n" + ",".join(["1"] * 100_000)).encode()

    with pytest.raises(InvalidInput, match="repeats 99,999 names, at most 1,000"):
        post(runtime, body, "text/csv")


def test_a_surplus_column_is_dropped_whatever_it_holds(tmp_path):
    runtime = serve(tmp_path, TYPED)
    sent = io.BytesIO()
    TYPED.assign(more=[{"deep": {"er": b"\xff"}}]).to_parquet(sent)
    payload = {"content_type": "application/vnd.apache.parquet"}
    tensor = Tensor(PAYLOAD, "BYTES", [1], pack_bytes([sent.getvalue()]), payload)
    parameters = {"content_type": SCORING, READS: "mlflow"}

    response = runtime.infer(InferenceRequest([tensor], parameters))

    assert response.parameters[PASSED_OVER] == {"column": ["more"]}
    assert "more" not in array_of(response.outputs[0]).tolist()[0]
