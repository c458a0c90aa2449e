"""What `/invocations` answers for each kind of value that a model returns, beside MLflow's own."""

from __future__ import annotations

import collections
import datetime as dt
import io
import json

import numpy as np
import pandas as pd
import pytest

from headrace.errors import BadModelOutput
from headrace.protocol.mlflow import scoring
from headrace.runtimes import create
from headrace.settings import ModelSettings

mlflow = pytest.importorskip("mlflow")
server = pytest.importorskip("mlflow.pyfunc.scoring_server")
pytestmark = pytest.mark.filterwarnings("ignore")

BIG = 2**53 + 1
RECORD = np.dtype([("n", "i4"), ("x", "f8")])
Pair = collections.namedtuple("Pair", "first second")


def masked(*values, dtype=None):
    return np.ma.array(np.array(values, dtype), mask=[False] * (len(values) - 1) + [True])


def column(values, dtype=None):
    return pd.DataFrame({"a": pd.array(values, dtype)})


EQUAL = {
    "masked integers": masked(1, 2),
    "masked floats": masked(1.5, 2.0),
    "masked booleans": masked(True, False),
    "masked text": masked("a", "b"),
    "masked days": masked("2020-01-01", "2021-01-01", dtype="M8[D]"),
    "a masked matrix": np.ma.array([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]]),
    "nothing but a mask": np.ma.masked,
    "masked records": np.ma.array(np.array([(1, 2.0)], RECORD), mask=[(False, True)]),
    "a mask that hides nothing": np.ma.array([1, 2]),
    "a masked array in a dict": {"a": masked(1, 2)},
    "a masked array in a list": [masked(1, 2)],
    "masked arrays in a list": [masked(1, 2), masked(3, 4)],
    "masked arrays in a list of lists": [[masked(1, 2)], [masked(3, 4)]],
    "a masked array deep in a dict": {"a": {"b": masked(1, 2)}},
    "a tuple of arrays": (np.array([1, 2]), np.array([3, 4])),
    "a tuple of arrays of different length": (np.array([1, 2]), np.array([3.5])),
    "a tuple of masked arrays": (masked(1, 2), masked(1.5, 2.0)),
    "a tuple of arrays of text": (np.array(["a"]), np.array(["b", "c"])),
    "a named tuple of arrays": Pair(np.array([1]), np.array([2])),
    "a named tuple": Pair(1, "x"),
    "integers with a missing one": column([7, None], "Int64"),
    "large integers with a missing one": column([BIG, None], "Int64"),
    "unsigned integers with a missing one": column([2**64 - 1, None], "UInt64"),
    "a series of integers with a missing one": pd.Series(pd.array([7, None], "Int32")),
    "booleans with a missing one": column([True, None], "boolean"),
    "floats with a missing one": column([0.1, None], "Float32"),
    "Arrow's integers with a missing one": column([BIG, None], "int64[pyarrow]"),
    "Arrow's booleans with a missing one": column([True, None], "bool[pyarrow]"),
    "Arrow's text with a missing one": column(["a", None], "string[pyarrow]"),
    "categories that are numbers": pd.DataFrame({"a": pd.Categorical([BIG, 3])}),
    "categories that are text": pd.DataFrame({"a": pd.Categorical(["b", "a"])}),
    "a sparse column": pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}),
    "integers that no datatype holds": [-1, 2**64 - 1],
    "integers that no datatype holds in a dict": {"a": [-1, 2**64 - 1]},
    "such integers in a column": column([-1, 2**64 - 1], object),
    "such integers in an array": np.array([2**64 - 1, -1], object),
    "an integer of many digits": 2**70,
    "the largest unsigned integer": np.uint64(2**64 - 1),
    "a large integer beside a fraction": [BIG, 1.5],
    "integers beside fractions": [1, 2.5],
    "integers beside fractions in rows": [[1, 2.5], [3.5, 4]],
    "integers beside fractions in a dict": {"a": [3.5, 4], "b": [1, 2]},
    "integers beside fractions in a column": column([1, 2.5], object),
    "integers beside fractions in an array": np.array([1, 2.5], object),
    "numbers of numpy in a list": [np.int64(1), np.float64(2.5)],
    "a structured array": np.array([(1, 2.5)], RECORD),
    "a record array": np.rec.array([(1, 2.5)], RECORD),
    "one record": np.array([(1, 2.5)], RECORD)[0],
    "a structured array in a dict": {"a": np.array([(1, 2.5)], RECORD)},
    "text of numpy's own dtype": np.array(["a", "b"], np.dtypes.StringDType()),
    "a day": np.datetime64("2020-01-01"),
    "a month": np.array(["2020-01"], "M8[M]"),
    "an hour": np.array(["2020-01-01T05"], "M8[h]"),
    "seconds": np.array(["2020-01-01T05:06:07"], "M8[s]"),
    "a table of times": column(pd.to_datetime(["2020-01-01"])),
    "times with a zone": column(pd.to_datetime(["2020-01-01"]).tz_localize("Europe/Paris")),
    "none as a key": {None: [1]},
    "a boolean as a key": {True: np.array([1])},
    "numbers as keys": {1: [1], 2.5: [2]},
    "a column without a name": pd.DataFrame({None: [1]}),
    "a table with an index": pd.DataFrame({"a": [1]}, index=["first"]),
    "a scalar array": np.array(5),
    "a matrix in the order of Fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big-endian numbers": np.array([1, 2], ">i4"),
    "a subclass of int": [type("Count", (int,), {})(5)],
}

# One form each, whatever holds it; see docs/decisions/0020-values-of-answers.md.
OWN = {
    "nanoseconds": (np.array(["2020-01-01T00:00:00.5"], "M8[ns]"), ["2020-01-01T00:00:00.500000"]),
    "nanoseconds in a dict": (
        {"x": {"t": np.array(["2020-01-01"], "M8[ns]")}},
        {"x": {"t": ["2020-01-01T00:00:00"]}},
    ),
    "no time": (pd.DataFrame({"t": pd.to_datetime(["2020-01-01", None])}),
                [{"t": "2020-01-01T00:00:00"}, {"t": None}]),
    "durations in seconds": (np.array([90], "m8[s]"), [90.0]),
    "durations in nanoseconds": (np.array([1_500_000_000], "m8[ns]"), [1.5]),
    "durations in a table": (pd.DataFrame({"d": pd.to_timedelta(["1.5s", None])}),
                             [{"d": 1.5}, {"d": None}]),
    "a duration in a record": (np.array([(1_500_000_000,)], [("d", "m8[ns]")]), [[1.5]]),
    "a time in a record": (np.array([("2020-01-01",)], [("t", "M8[ns]")]),
                           [["2020-01-01T00:00:00"]]),
    "bytes": (b"ab", "YWI="),
    "a byte array": (bytearray(b"ab"), "YWI="),
    "byte arrays": ([bytearray(b"ab"), bytearray(b"c")], ["YWI=", "Yw=="]),
    "void": (np.array([b"ab"], "V2"), ["YWI="]),
    "nullable integers outside of a table": (pd.array([BIG, None], "Int64"), [BIG, None]),
    "nullable integers in a dict": ({"a": pd.array([BIG, None], "Int64")}, {"a": [BIG, None]}),
    "categories outside of a table": (pd.Categorical([5, 3, None]), [5, 3, None]),
    "an index": (pd.Index([2, 1]), [2, 1]),
    "a table in a list": ([pd.DataFrame({"a": [1], "b": ["x"]})], [[{"a": 1, "b": "x"}]]),
    "a data class's times": ({"t": dt.timedelta(seconds=1.5)}, {"t": 1.5}),
}  # fmt: skip

REFUSED = {
    "a period": pd.DataFrame({"a": pd.period_range("2020-01", periods=1, freq="M")}),
    "an interval": pd.DataFrame({"a": pd.interval_range(0, 2)}),
    "complex numbers": np.array([1j]),
}


class Answers(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        name = str(model_input[0])
        return OWN[name][0] if name in OWN else {**EQUAL, **REFUSED}[name]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("answers") / "m")
    mlflow.pyfunc.save_model(folder, python_model=Answers(), pip_requirements=["numpy"])
    runtime = create(ModelSettings("m", "mlflow", uri=folder))
    runtime.load()
    return runtime


def answered(runtime, name):
    """The text of what `/invocations` answers."""
    request = scoring.decode(json.dumps({"inputs": [name]}).encode(), "application/json", None)
    return json.loads(scoring.encode(runtime.infer(request.request)))["predictions"]


@pytest.mark.parametrize("name", EQUAL)
def test_an_answer_is_the_one_that_mlflow_gives(name, runtime):
    theirs = io.StringIO()
    server.predictions_to_json(EQUAL[name], theirs)
    theirs = theirs.getvalue().replace("NaN", "null")

    # As text, where 7 and 7.0 differ.
    assert json.dumps({"predictions": answered(runtime, name)}) == theirs


@pytest.mark.parametrize("name", OWN)
def test_an_answer_has_one_form_whatever_holds_it(name, runtime):
    assert answered(runtime, name) == OWN[name][1]


@pytest.mark.parametrize("name", REFUSED)
def test_what_neither_can_write_is_refused(name, runtime):
    with pytest.raises(BadModelOutput):
        answered(runtime, name)
