"""If MLflow's own server also accepts a request, both see the same table."""

from __future__ import annotations

import json

import numpy as np
import pytest

from headrace.protocol.mlflow.scoring import decode
from headrace.protocol.mlflow.signature import Signature
from headrace.protocol.tensor import unpack_bytes

mlflow_server = pytest.importorskip("mlflow.pyfunc.scoring_server")
NUMPY = {"BOOL": "?", "INT32": "<i4", "INT64": "<i8", "FP32": "<f4", "FP64": "<f8"}
pytestmark = pytest.mark.filterwarnings("ignore")


def recorded(example, output=None, params=None):
    from mlflow.models import infer_signature

    return infer_signature(example, output, params=params)


def array(item):
    if item.datatype == "BYTES":
        return np.array([text.decode() for text in unpack_bytes(item.data, item.shape[0])])
    return np.frombuffer(item.data, NUMPY[item.datatype]).reshape(item.shape)


def both(body, signature):
    """What MLflow would pass to the model, and our tensors, by name."""
    from mlflow.models.utils import _enforce_schema

    data = mlflow_server.infer_and_parse_data(json.loads(json.dumps(body)), signature.inputs)
    theirs = _enforce_schema(data, signature.inputs)
    request = decode(
        json.dumps(body).encode(), "application/json", Signature.parse(signature.to_dict())
    ).request
    return theirs, {item.name: array(item) for item in request.inputs}


def frame():
    import pandas as pd

    return pd.DataFrame(
        {"d": [1.5, 2.5], "f": np.array([0.1, 1e-9], "f4"), "i": np.array([1, -2], "i4")}
    ).assign(l=[2**62, 0], b=[True, False], s=["x", "Käse"])


BODIES = {
    "split": lambda table: {"dataframe_split": table.to_dict(orient="split")},
    "records": lambda table: {"dataframe_records": table.to_dict(orient="records")},
    "inputs": lambda table: {"inputs": table.to_dict(orient="list")},
    "instances": lambda table: {"instances": table.to_dict(orient="records")},
}


@pytest.mark.parametrize("form", BODIES.values(), ids=BODIES)
def test_scalar_columns_equal_mlflows(form):
    theirs, ours = both(form(frame()), recorded(frame()))
    assert list(ours) == list(theirs.columns)
    for name, column in ours.items():
        expected = theirs[name].to_numpy()
        assert column.tolist() == expected.tolist()
        if column.dtype.kind != "U":
            assert column.dtype == expected.dtype


@pytest.mark.parametrize("form", ["inputs", "instances"])
def test_unnamed_tensor_equals_mlflows(form):
    example = np.arange(6, dtype="f4").reshape(2, 3)
    theirs, ours = both({form: example.tolist()}, recorded(example))
    assert ours["input-0"].dtype == theirs.dtype
    np.testing.assert_array_equal(ours["input-0"], theirs)


def test_named_tensors_equal_mlflows():
    example = {"x": np.arange(4.0).reshape(2, 2), "y": np.array([1, 2])}
    theirs, ours = both(
        {"inputs": {name: item.tolist() for name, item in example.items()}}, recorded(example)
    )
    for name in example:
        assert ours[name].dtype == theirs[name].dtype
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_integer_column_names_are_read():
    import pandas as pd

    example = pd.DataFrame({0: [1.0], 1: [2.0]})
    theirs, ours = both({"dataframe_split": example.to_dict(orient="split")}, recorded(example))
    assert {name: column.tolist() for name, column in ours.items()} == {"0": [1.0], "1": [2.0]}
    assert theirs.to_numpy().tolist() == [[1.0, 2.0]]


def test_params_equal_mlflows():
    from mlflow.models.utils import _enforce_params_schema

    signature = recorded(frame(), params={"n": 1, "x": 0.5, "names": ["a"], "flag": True})
    ours = Signature.parse(signature.to_dict(), lambda kind, words: None)
    for given in ({}, {"n": 4, "x": 2, "unknown": 1}, {"names": ["b", "c"], "flag": False}):
        assert ours.conform_params(given) == _enforce_params_schema(dict(given), signature.params)


def test_signature_names_and_content_type_survive_mlflows_json():
    signature = Signature.parse(recorded(frame(), np.array([1.0])).to_dict())
    assert signature.names == list(frame().columns)
    assert signature.is_simple
    assert [item.name for item in signature.output_metadata()] == ["output-1"]
