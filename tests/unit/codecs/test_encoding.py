from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from headrace.codecs import decode_input, decode_request, encode_response
from headrace.codecs.array import tensor_of
from headrace.codecs.frame import frame_of
from headrace.errors import BadModelOutput, InvalidInput
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor, pack_bytes


def texts(name, *values, content_type=None):
    parameters = {"content_type": content_type} if content_type else None
    packed = pack_bytes([value.encode() for value in values])
    return Tensor(name, "BYTES", [len(values)], packed, parameters)


@pytest.mark.parametrize(
    ("value", "content_type", "datatype", "shape"),
    [
        pytest.param(np.zeros(3), "np", "FP64", [3], id="vector"),
        pytest.param(np.zeros((3, 2), np.float32), "np", "FP32", [3, 2], id="matrix"),
        pytest.param([1, 2], "np", "INT64", [2], id="whole numbers"),
        pytest.param([[1, 2], [3, 4]], "np", "INT64", [2, 2], id="nested list"),
        pytest.param([True, False], "np", "BOOL", [2], id="flags"),
        pytest.param(["a", "b"], "str", "BYTES", [2], id="texts"),
        pytest.param([[1], [2, 3]], "np", "BYTES", [2], id="ragged list"),
        pytest.param([{"a": 1}], "np", "BYTES", [1], id="dicts"),
        pytest.param("a", "str", "BYTES", [1], id="text"),
        pytest.param(2.5, "np", "FP64", [1], id="number"),
        pytest.param({"a": 1, "b": "c"}, "json", "BYTES", [1], id="dict of scalars"),
        pytest.param({"a": [1, 2]}, "dict", "INT64", [2], id="dict of lists"),
        pytest.param(None, "json", "BYTES", [1], id="nothing"),
        pytest.param(csr_matrix([[0, 1.0]]), "np", "FP64", [1, 2], id="sparse"),
        pytest.param(pd.Series([1, 2], name="s"), "pd", "INT64", [2], id="series"),
    ],
)
def test_the_type_of_the_answer_chooses_its_tensors(value, content_type, datatype, shape):
    response = encode_response(value)
    assert response.content_type == content_type
    assert (response.outputs[0].datatype, response.outputs[0].shape) == (datatype, shape)


def test_a_tuple_of_arrays_becomes_one_output_each():
    response = encode_response((np.zeros(1), np.ones(1)), names=["a", "b"])
    assert [tensor.name for tensor in response.outputs] == ["a", "b"]


def test_a_frame_becomes_one_output_per_column():
    response = encode_response(pd.DataFrame({0: [1], "b": ["x"]}))
    assert [tensor.name for tensor in response.outputs] == ["0", "b"]
    assert response.content_type == "pd"


def test_nan_inside_json_becomes_null():
    (tensor,) = encode_response({"a": float("nan"), "b": np.float32("inf")}).outputs
    assert decode_input(tensor) == {"a": None, "b": None}


def test_json_answers_hold_arrays_times_and_bytes():
    value = {"a": np.arange(2), "t": pd.Timestamp("2020-01-01"), "b": b"x", "n": pd.NA}
    (tensor,) = encode_response(value).outputs
    assert json.loads(bytes(tensor.data)[4:]) == {
        "a": [0, 1],
        "t": "2020-01-01T00:00:00",
        "b": "eA==",
        "n": None,
    }


def test_repeated_columns_in_the_answer_are_refused():
    with pytest.raises(BadModelOutput, match="several columns named 'a'"):
        encode_response(pd.DataFrame([[1, 2]], columns=["a", "a"]))


@pytest.mark.parametrize("value", [object(), {"a": object()}, [object()], np.zeros(1, complex)])
def test_a_value_without_a_json_form_is_refused(value):
    with pytest.raises(BadModelOutput):
        encode_response(value)


def test_an_unknown_content_type_is_named():
    with pytest.raises(InvalidInput, match="unknown content type 'csv', expected one of np"):
        decode_request(InferenceRequest([tensor_of("x", np.zeros(1))]), "csv")


def test_np_takes_one_input():
    inputs = [tensor_of("a", np.zeros(1)), tensor_of("b", np.zeros(1))]
    with pytest.raises(InvalidInput, match="takes exactly one input, got 2: 'a', 'b'"):
        decode_request(InferenceRequest(inputs), "np")


@pytest.mark.parametrize(
    ("content_type", "text", "expected"),
    [
        pytest.param("base64", "a?", "row 1: expected base64", id="base64"),
        pytest.param("datetime", "soon", "row 1: expected an ISO 8601 time", id="datetime"),
        pytest.param("pd_json", "{", "row 1: expected JSON", id="json"),
        pytest.param("pd_json", "1e400", "row 1: expected JSON", id="a large number"),
    ],
)
def test_an_undecodable_element_is_named_by_its_place(content_type, text, expected):
    good = {"base64": "YQ==", "datetime": "2020-01-01T00:00:00Z", "pd_json": "1"}[content_type]
    with pytest.raises(InvalidInput, match=expected):
        decode_input(texts("x", good, text, content_type=content_type))


def test_bytes_that_are_not_text_are_refused_as_text():
    tensor = Tensor("x", "BYTES", [1], pack_bytes([b"\xff"]))
    with pytest.raises(InvalidInput, match="row 0: expected UTF-8 text"):
        decode_request(InferenceRequest([tensor]), "np")


def test_columns_of_different_length_are_refused():
    with pytest.raises(InvalidInput, match="input 'b' has 2 rows, but input 'a' has 1"):
        frame_of([tensor_of("a", np.zeros(1)), tensor_of("b", np.zeros(2))])


def test_a_frame_without_rows_keeps_its_columns():
    frame = frame_of([tensor_of("a", np.zeros(0)), texts("b")])
    assert list(frame.columns) == ["a", "b"]
    assert len(frame) == 0


def test_a_column_of_vectors_has_one_vector_per_row():
    frame = frame_of([tensor_of("v", np.arange(4.0).reshape(2, 2))])
    assert frame["v"][1].tolist() == [2.0, 3.0]


def test_a_frame_of_one_dtype_has_the_memory_layout_of_one_read_from_a_file():
    frame = frame_of([tensor_of(name, np.arange(3.0)) for name in "ab"])
    assert frame.to_numpy().flags.f_contiguous


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("2020-01-01T12:00:00Z", "2020-01-01T12:00:00", id="utc"),
        pytest.param("2020-01-01T12:00:00+02:00", "2020-01-01T10:00:00", id="zone"),
        pytest.param("2020-01-01", "2020-01-01", id="date"),
    ],
)
def test_times_in_a_table_are_utc_without_a_zone(text, expected):
    frame = frame_of([texts("t", text, content_type="datetime")])
    assert frame["t"].dtype == "datetime64[ns]"
    assert frame["t"][0] == pd.Timestamp(expected)


def test_arrays_of_other_libraries_are_arrays():
    class Foreign:
        def __array__(self, dtype=None, copy=None):
            return np.arange(2)

    (tensor,) = encode_response({"a": Foreign()}).outputs
    assert (tensor.name, tensor.shape) == ("a", [2])
    (nested,) = encode_response({"a": [{"b": Foreign()}]}).outputs
    assert json.loads(bytes(nested.data)[4:]) == {"b": [0, 1]}


def _itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def _nested(depth: int) -> list[Any]:
    value: list[Any] = [1]
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [_itself(), _nested(5000), (_itself(),)],
    ids=["holds itself", "5,000 levels", "in a tuple"],
)
def test_an_answer_that_holds_itself_or_nests_too_deeply_is_the_models_fault(value: Any) -> None:
    with pytest.raises(BadModelOutput):
        encode_response(value)


@pytest.mark.parametrize("name", ["\ud800", "a\udfff"])
def test_a_name_with_half_of_a_surrogate_pair_is_the_models_fault(name: str) -> None:
    for value in ({name: [1]}, pd.Series([1], name=name)):
        with pytest.raises(BadModelOutput, match="half of a surrogate pair"):
            encode_response(value)


def test_a_name_beyond_ascii_is_sent() -> None:
    assert encode_response({"größe": [1]}).outputs[0].name == "größe"
