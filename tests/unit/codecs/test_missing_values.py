"""A column has one datatype, whether or not a value of it is missing."""

from __future__ import annotations

import decimal
import json

import numpy as np
import pandas as pd
import pytest

from headrace.client.result import InferResult
from headrace.codecs import decode_value, encode_response
from headrace.errors import BadModelOutput, InvalidInput
from headrace.protocol.casting import cast
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.open_inference import grpc_messages, rest_json
from headrace.protocol.open_inference.rest_binary import ALL_OUTPUTS, NO_OUTPUTS
from headrace.protocol.tensor import split_rows
from headrace.runners.runner_values import request_of

BIG = 2**53 + 1


def over_rest(value, binary=NO_OUTPUTS):
    response = encode_response(value)
    body, length = rest_json.encode_response(
        response, model_name="m", model_version=None, id="", binary_outputs=binary
    )
    return json.loads(body[:length])["outputs"][0]


def frame(values, dtype):
    return pd.DataFrame({"a": pd.array(values, dtype)})


COLUMNS = [
    pytest.param("Int8", "INT8", 7, id="Int8"),
    pytest.param("Int64", "INT64", BIG, id="Int64"),
    pytest.param("UInt64", "UINT64", 2**64 - 1, id="UInt64"),
    pytest.param("boolean", "BOOL", True, id="boolean"),
    pytest.param("Float32", "FP32", 0.5, id="Float32"),
    pytest.param("Float64", "FP64", 0.1, id="Float64"),
    pytest.param("int64[pyarrow]", "INT64", BIG, id="Arrow's integers"),
    pytest.param("bool[pyarrow]", "BOOL", False, id="Arrow's booleans"),
    pytest.param("double[pyarrow]", "FP64", 0.1, id="Arrow's floats"),
    pytest.param(pd.CategoricalDtype([BIG, 3]), "INT64", BIG, id="categories"),
]


@pytest.mark.parametrize(("dtype", "datatype", "value"), COLUMNS)
def test_a_missing_value_is_null_and_does_not_change_the_datatype(dtype, datatype, value):
    for values in ([value, value], [value, None], [None, None]):
        output = over_rest(frame(values, dtype))
        assert output == {"name": "a", "shape": [2], "datatype": datatype, "data": values}


@pytest.mark.parametrize(
    ("value", "datatype", "data"),
    [
        pytest.param(np.ma.array([1, 2], mask=[0, 1]), "INT64", [1, None], id="integers"),
        pytest.param(np.ma.array([1.5, 2], mask=[0, 1]), "FP64", [1.5, None], id="floats"),
        pytest.param(np.ma.array([True, True], mask=[0, 1]), "BOOL", [True, None], id="booleans"),
        pytest.param(np.ma.array([[1, 2]], mask=[[0, 1]], dtype=">i2"), "INT16", [1, None],
                     id="big-endian"),
    ],
)  # fmt: skip
def test_a_masked_element_is_null_and_never_what_is_under_the_mask(value, datatype, data):
    output = over_rest(value)

    assert (output["datatype"], output["data"]) == (datatype, data)
    assert output["shape"] == list(value.shape)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(np.ma.array([1, 2], mask=[0, 1]), id="masked"),
        pytest.param(frame([1, None], "Int64"), id="nullable"),
        pytest.param(frame([True, None], "boolean"), id="booleans"),
    ],
)
def test_raw_bytes_refuse_what_only_json_can_say(value):
    response = encode_response(value)

    with pytest.raises(BadModelOutput, match=r"has 1 missing values.*as JSON over REST"):
        over_rest(value, ALL_OUTPUTS)
    for raw in (False, True):
        with pytest.raises(BadModelOutput, match="has 1 missing values"):
            grpc_messages.encode_response(
                response, model_name="m", model_version=None, id="", raw=raw
            )


def test_a_column_in_which_nothing_is_missing_travels_raw():
    output = over_rest(frame([1, 2], "Int64"), ALL_OUTPUTS)

    assert (output["datatype"], output["parameters"]) == ("INT64", {"binary_data_size": 16})


def test_each_caller_of_a_batch_gets_its_rows_and_their_nulls():
    (tensor,) = encode_response(frame([BIG, None, 3], "Int64")).outputs

    first, second = split_rows(tensor, [2, 1])

    assert InferResult([first]).to_frame()["a"].tolist() == [BIG, pd.NA]
    assert InferResult([second]).outputs["a"].tolist() == [3]


def test_missing_floats_of_a_masked_array_are_nan_in_raw_bytes():
    (tensor,) = encode_response(np.ma.array([1.5, 2.0], mask=[0, 1], dtype="f4")).outputs

    assert np.isnan(np.frombuffer(tensor.data, "f4")).tolist() == [False, True]


@pytest.mark.parametrize(
    ("make", "datatype", "data"),
    [
        pytest.param(lambda pa: pa.array([BIG, None]), "INT64", [BIG, None], id="array"),
        pytest.param(lambda pa: pa.chunked_array([[1], [2]]), "INT64", [1, 2], id="chunks"),
        pytest.param(lambda pa: {"a": pa.array([BIG, None])}, "INT64", [BIG, None], id="in a dict"),
        pytest.param(lambda pa: pa.table({"a": [BIG, None]}), "INT64", [BIG, None], id="table"),
        pytest.param(lambda pa: pa.record_batch({"a": [True, None]}), "BOOL", [True, None],
                     id="batch"),
        pytest.param(lambda pa: [pa.array([BIG, None])], "BYTES", [str(BIG), "null"],
                     id="in a list"),
    ],
)  # fmt: skip
def test_what_arrow_holds_keeps_its_types_and_nulls(make, datatype, data):
    output = over_rest(make(pytest.importorskip("pyarrow")))

    assert (output["datatype"], output["data"]) == (datatype, data)


@pytest.mark.parametrize(
    "value",
    [
        decimal.Decimal("1.10"),
        frame([decimal.Decimal("1.10")], object),
        [pd.Interval(0, 1)],
        pd.Series(pd.period_range("2020-01", periods=2, freq="M")),
    ],
    ids=["a decimal", "decimals", "an interval", "periods"],
)
def test_what_no_json_number_means_is_refused_by_its_type(value):
    with pytest.raises(BadModelOutput, match=r"(Decimal|Interval|Period) has no JSON form"):
        encode_response(value)


@pytest.mark.parametrize(
    "value",
    [[1, 2.5], np.array([1, 2.5], object), pd.Series([1, 2.5], dtype=object), {"a": [1, 2.5]}],
    ids=["a list", "an array", "a series", "a dict"],
)
def test_integers_beside_fractions_are_doubles_that_json_writes_as_they_are(value):
    output = over_rest(value)

    assert (output["datatype"], output["data"]) == ("FP64", [1, 2.5])
    assert type(output["data"][0]) is int
    assert over_rest(value, ALL_OUTPUTS)["parameters"]["binary_data_size"] == 16


def test_a_runner_asks_with_doubles_where_integers_and_fractions_are_mixed():
    request = request_of([1, 2.5])

    assert request.inputs[0].datatype == "FP64"
    assert decode_value(request, "np") == [1.0, 2.5]


@pytest.mark.parametrize(
    ("target", "expected"), [("FP64", [7.0, None]), ("FP32", [7.0, None]), ("INT64", None)]
)
def test_a_runners_missing_integers_fit_a_signature_as_others_do(target, expected):
    (tensor,) = request_of(pd.Series(pd.array([7, None], "Int64"))).inputs

    if expected is None:
        with pytest.raises(InvalidInput, match="column 'a', row .: expected INT64, got null"):
            cast(tensor, target, "column 'a'")
    else:
        numbers = np.frombuffer(cast(tensor, target, ""), DATATYPES[target].numpy)
        assert [None if np.isnan(number) else number for number in numbers] == expected
