"""What custom runtimes answer with missing, masked and large numbers."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from headrace.compat.mlserver import types
from headrace.compat.mlserver.codecs import NumpyCodec, PandasCodec
from headrace.compat.mlserver.tensors import tensor_of
from headrace.errors import BadModelOutput
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.open_inference import rest_json

BIG = 2**53 + 1
MASKED = np.ma.array([1, 2], mask=[False, True])


def over_rest(output):
    body, _ = rest_json.encode_response(
        InferenceResponse([tensor_of(output)]), model_name="m", model_version=None, id=""
    )
    (found,) = json.loads(body)["outputs"]
    return found["datatype"], found["data"]


def output(datatype, data):
    return types.ResponseOutput(name="o", shape=[2], datatype=datatype, data=data)


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),
    [
        pytest.param("INT64", [BIG, None], [BIG, None], id="none among integers"),
        pytest.param("BOOL", [True, None], [True, None], id="none among booleans"),
        pytest.param("FP64", [1.5, None], [1.5, None], id="none among floats"),
        pytest.param("INT64", MASKED, [1, None], id="masked integers"),
        pytest.param("FP64", MASKED, [1.0, None], id="masked numbers as floats"),
        pytest.param("UINT64", [2**64 - 1, 1], [2**64 - 1, 1], id="large integers"),
        pytest.param("INT64", np.array([BIG, 1], object), [BIG, 1], id="an array of objects"),
    ],
)
def test_numbers_that_a_runtime_lists_are_answered_as_they_are(datatype, data, expected):
    assert over_rest(output(datatype, data)) == (datatype, expected)


@pytest.mark.parametrize(
    ("datatype", "data"),
    [("INT8", [300, None]), ("INT64", [1.5, None]), ("INT64", [-1, 2**64 - 1]), ("BOOL", [None])],
)
def test_numbers_that_do_not_fit_are_refused_beside_missing_ones_too(datatype, data):
    with pytest.raises(BadModelOutput):
        over_rest(output(datatype, data))


@pytest.mark.parametrize("dtype", ["Int64", "int64[pyarrow]"])
def test_the_pandas_codec_keeps_the_datatype_of_a_column_with_missing_values(dtype):
    frame = pd.DataFrame({"a": pd.array([7, None], dtype)})
    (made,) = PandasCodec.encode_outputs(frame)

    assert (made.datatype, made.data.root) == ("INT64", [7, None])
    assert over_rest(made) == ("INT64", [7, None])
    response = PandasCodec.encode_response("m", frame)
    assert PandasCodec.decode_response(response)["a"].tolist() == [7, pd.NA]


def test_the_numpy_codec_answers_null_for_what_is_masked():
    assert over_rest(NumpyCodec.encode_output("o", MASKED)) == ("INT64", [1, None])
