"""Tables of numbers that reach a model of MLflow without becoming a DataFrame."""

from __future__ import annotations

import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LinearRegression

from headrace.batching import policy
from headrace.codecs.array import array_of, tensor_of
from headrace.codecs.frame import block_of_columns, frame_of, frame_of_matrix
from headrace.errors import InvalidInput
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.mlflow.signature import Signature
from headrace.runtimes import create
from headrace.runtimes.mlflow import mlflow_runtime
from headrace.settings import ModelSettings

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")

KINDS = {"double": "f8", "float": "f4", "long": "i8", "integer": "i4", "boolean": "?"}
NAMES = ["a", "b", "c"]


def signature(*kinds, **column):
    named = zip(kinds, NAMES, strict=False)
    columns = [{"type": kind, "name": name, **column} for kind, name in named]
    return Signature.parse({"inputs": columns})


def request(table, **parameters):
    inputs = [tensor_of(str(name), table[name].to_numpy()) for name in table]
    return InferenceRequest(inputs, {"content_type": "pd", **parameters})


@st.composite
def tables(draw, kinds=tuple(KINDS)):
    """The MLflow types of one to three columns, and a table of them."""
    found = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3))
    rows = draw(st.integers(1, 5))
    columns = [draw(arrays(KINDS[kind], rows)) for kind in found]
    return found, pd.DataFrame(dict(zip(NAMES, columns, strict=False)))


def described(array):
    return array.dtype, array.shape, array.strides, array.tobytes()


@given(tables())
def test_the_array_of_columns_is_the_one_that_numpy_makes_of_their_table(drawn):
    kinds, table = drawn
    tensors = request(table).inputs
    block = block_of_columns(tensors)
    if "boolean" in kinds and len(set(kinds)) > 1:
        assert block is None
    else:
        assert described(block) == described(np.asarray(frame_of(tensors)))


@given(tables())
def test_joined_columns_make_the_same_table_to_the_bit_and_the_layout(drawn):
    kinds, table = drawn
    found = signature(*kinds)
    conforming = found.conform(request(table))
    joined = found.conform_joined(conforming)
    assert found.is_matrix(joined.inputs) == (len(set(kinds)) == 1 < len(kinds))
    if found.is_matrix(joined.inputs):
        made = frame_of_matrix(joined.inputs[0], pd.Index(list(table)))
        expected = frame_of(conforming.inputs)
        pd.testing.assert_frame_equal(made, expected)
        assert described(made.to_numpy()) == described(expected.to_numpy())
    else:
        assert [tensor.name for tensor in joined.inputs] == list(table)


@pytest.mark.parametrize(
    ("found", "sent"),
    [
        (signature("double", "double", required=False), {"a": [1.0]}),
        (signature("string", "string"), {"a": ["x"], "b": ["y"]}),
        (signature("double", "double"), {"a": np.ones(2000), "b": np.ones(2000)}),
    ],
    ids=["a column is missing", "text", "large"],
)
def test_other_columns_stay_apart(found, sent):
    inputs = found.conform_joined(request(pd.DataFrame(sent))).inputs
    assert [tensor.name for tensor in inputs] == list(sent)


def test_columns_stay_apart_if_a_caller_says_where_their_rows_are():
    found = signature("double", "double")
    sent = request(pd.DataFrame({"a": [1.0], "b": [2.0]}), batch_dim=[0, 0])
    assert len(found.conform_joined(sent).inputs) == 2


def served(folder, table, labels=None):
    """A linear model of three columns that was logged with a signature of `table`."""
    table = pd.DataFrame(table)
    model = LinearRegression().fit(table.astype(float), np.arange(len(table)))
    logged = mlflow.models.infer_signature(table)
    mlflow.sklearn.save_model(
        model, str(folder), signature=logged, pip_requirements=["scikit-learn"]
    )
    runtime = create(ModelSettings("m", "mlflow", uri=str(folder)))
    runtime.load()
    return runtime, mlflow.pyfunc.load_model(str(folder))


def ask(runtime, table):
    found = Signature.parse(runtime.metadata().signature)
    return runtime.infer(found.conform_joined(request(table)))


@pytest.fixture(scope="module")
def doubles(tmp_path_factory):
    rows = np.random.default_rng(1).normal(size=(9, 3))
    return served(tmp_path_factory.mktemp("doubles") / "m", dict(zip(NAMES, rows.T, strict=True)))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    rows = np.random.default_rng(1).normal(size=(9, 3))
    columns = zip(NAMES, rows.T * 10, ("f8", "i8", "f4"), strict=True)
    table = {name: column.astype(kind) for name, column, kind in columns}
    return served(tmp_path_factory.mktemp("mixed") / "m", table)


finite = st.floats(-1e6, 1e6, width=32)


@settings(deadline=None)
@given(st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=5))
def test_answers_to_doubles_are_pyfuncs_to_the_bit(doubles, rows):
    runtime, pyfunc = doubles
    table = pd.DataFrame(rows, columns=NAMES)
    assert array_of(ask(runtime, table).outputs[0]).tobytes() == pyfunc.predict(table).tobytes()


@settings(deadline=None)
@given(st.lists(st.tuples(finite, st.integers(-99, 99), finite), min_size=1, max_size=5))
def test_answers_to_numbers_of_several_types_are_pyfuncs_to_the_bit(mixed, rows):
    runtime, pyfunc = mixed
    types = dict(zip(NAMES, ("f8", "i8", "f4"), strict=True))
    table = pd.DataFrame(rows, columns=NAMES).astype(types)
    assert array_of(ask(runtime, table).outputs[0]).tobytes() == pyfunc.predict(table).tobytes()


def test_a_table_of_numbers_does_not_become_a_dataframe(doubles, monkeypatch):
    runtime, _ = doubles
    monkeypatch.setattr(mlflow_runtime, "frame_of_matrix", None)
    found = Signature.parse(runtime.metadata().signature)
    inputs = [tensor_of(name, np.ones(2)) for name in NAMES]
    answer = runtime.infer(found.conform_joined(InferenceRequest(inputs)))
    assert answer.outputs[0].shape == [2]


def test_a_number_that_the_model_refuses_is_refused_by_its_column(doubles):
    runtime, _ = doubles
    with pytest.raises(InvalidInput, match="column 'b', row 0 holds NaN"):
        ask(runtime, pd.DataFrame({"a": [1.0], "b": [np.nan], "c": [1.0]}))


def test_columns_that_are_not_joined_are_answered_as_those_that_are(doubles):
    runtime, _ = doubles
    table = pd.DataFrame({"a": [1.5, 2.5], "b": [0.1, 0.2], "c": [7.0, 8.0]})
    found = Signature.parse(runtime.metadata().signature)
    apart = runtime.infer(found.conform(request(table)))
    assert (
        array_of(apart.outputs[0]).tobytes() == array_of(ask(runtime, table).outputs[0]).tobytes()
    )


def test_requests_in_any_order_of_columns_merge_as_one_matrix():
    found = signature("double", "double")
    one = found.conform_joined(request(pd.DataFrame({"a": [1.0], "b": [2.0]})))
    other = found.conform_joined(request(pd.DataFrame({"b": [4.0], "a": [3.0]})))
    assert policy.key(one) == policy.key(other)
    (merged,) = policy.merge([one, other]).inputs
    assert (merged.shape, merged.data) == ([2, 2], struct.pack("<4d", 1, 2, 3, 4))
