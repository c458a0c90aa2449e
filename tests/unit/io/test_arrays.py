"""Arrays: which bodies become which array, and what answers are."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from headrace.errors import BadModelOutput
from headrace.io import NumpyNdarray


def decoded(descriptor, body, content_type="application/json"):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return descriptor.decode(body, {"content-type": content_type})


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "application/json; charset=UTF-8",
        "application/vnd.api+json",
        "application/x-www-form-urlencoded",
        "text/plain;charset=UTF-8",
        "application/octet-stream",
    ],
)
def test_json_is_read_under_the_types_that_clients_send_it_with(content_type):
    array = decoded(NumpyNdarray(), b"[[5.9,3,5.1,1.8]]", content_type)

    assert array.tolist() == [[5.9, 3.0, 5.1, 1.8]]


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("float32", [1, 2], [1.0, 2.0]),
        ("uint8", [1, 255], [1, 255]),
        ("int64", [1.0, 2.0], [1, 2]),
        ("bool", [1, 0], [True, False]),
        ("int16", [True], [1]),
        ("float64", [None, 1], [None, 1.0]),
        ("float32", [10**30], [float(np.float32(1e30))]),
        ("datetime64[D]", ["2024-02-29"], ["2024-02-29"]),
        ("U8", ["a"], ["a"]),
        ("complex64", [1], [1]),
    ],
)
def test_elements_get_the_dtype_where_no_value_changes(dtype, value, expected):
    array = decoded(NumpyNdarray(dtype=dtype, enforce_dtype=True), value)

    assert array.dtype == dtype
    if dtype.startswith("datetime"):
        array = array.astype(str)
    assert [None if each != each else each for each in array.tolist()] == expected


@pytest.mark.parametrize(("dtype", "value"), [("int64", [1.5]), ("uint8", [300]), ("f4", ["a"])])
def test_elements_that_do_not_fit_a_dtype_that_is_not_enforced_stay_as_they_are(dtype, value):
    array = decoded(NumpyNdarray(dtype=dtype), value)

    assert array.tolist() == value


def test_an_array_is_reshaped_where_the_shape_is_not_enforced_and_only_if_it_can_be():
    descriptor = NumpyNdarray(shape=(-1, 2))

    assert decoded(descriptor, [1, 2, 3, 4]).tolist() == [[1, 2], [3, 4]]
    assert decoded(descriptor, [1, 2, 3]).tolist() == [1, 2, 3]


@given(arrays.arrays(arrays.scalar_dtypes(), arrays.array_shapes(min_dims=0, min_side=0)))
def test_a_npy_file_of_any_dtype_keeps_every_bit(array):
    found = decoded(NumpyNdarray(), npy(array), "application/vnd.numpy")

    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.shape == array.shape
    assert found.astype(array.dtype).tobytes() == array.tobytes()
    assert found.flags.writeable


@pytest.mark.parametrize("content_type", ["", "application/octet-stream", "text/plain"])
def test_a_npy_file_is_recognised_where_nobody_named_a_type(content_type):
    assert decoded(NumpyNdarray(), npy(np.arange(2)), content_type).tolist() == [0, 1]


def test_a_byte_order_mark_before_json_is_skipped():
    assert decoded(NumpyNdarray(), b"\xef\xbb\xbf[1, 2]").tolist() == [1, 2]


@pytest.mark.parametrize("dtype", ["bool", "int64", "U3", "datetime64[D]"])
def test_an_array_without_elements_gets_the_dtype(dtype):
    assert decoded(NumpyNdarray(dtype=dtype, enforce_dtype=True), [[]]).dtype.kind in "biUM"


def test_a_npy_file_in_column_order_is_read():
    array = np.asfortranarray([[1, 2, 3], [4, 5, 6]])

    found = decoded(NumpyNdarray(), npy(array), "application/octet-stream")

    assert found.tolist() == array.tolist()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_answers_keep_every_digit(numbers):
    body = NumpyNdarray().encode(np.array(numbers, dtype="float64")).body

    assert json.loads(body) == numbers


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (np.array([1.0, np.nan, np.inf]), b"[1.0,null,null]"),
        ([[1, 2]], b"[[1,2]]"),
        (pd.DataFrame({"a": [1]}), b"[[1]]"),
        (pd.Series([1.5]), b"[1.5]"),
        (np.float32(0.5), b"0.5"),
        (np.array(["é"]), '["é"]'.encode()),
    ],
)
def test_an_answer_may_be_whatever_numpy_makes_an_array_of(value, body):
    encoded = NumpyNdarray().encode(value)

    assert (encoded.body, encoded.content_type) == (body, "application/json")


@pytest.mark.parametrize(
    ("value", "body"),
    [
        pytest.param(np.ma.array([1, 2], mask=[0, 1]), b"[1,null]", id="masked integers"),
        pytest.param(np.ma.array([1.5, 2], mask=[0, 1]), b"[1.5,null]", id="masked floats"),
        pytest.param([np.ma.array([1, 2], mask=[0, 1])] * 2, b"[[1,null],[1,null]]", id="rows"),
        pytest.param([-1, 2**64 - 1], b"[-1,18446744073709551615]", id="integers of two types"),
        pytest.param(
            pd.array([2**53 + 1, None], "Int64"), b"[9007199254740993,null]", id="nullable integers"
        ),
        pytest.param(
            pd.Series(pd.array([2**53 + 1, None], "Int64")),
            b"[9007199254740993,null]",
            id="a nullable series",
        ),
    ],
)
@pytest.mark.parametrize("dtype", [None, "int64", "float64"])
def test_an_answer_shows_neither_what_is_masked_nor_rounded_integers(dtype, value, body):
    assert NumpyNdarray(dtype=dtype).encode(value).body == body


@pytest.mark.parametrize("value", [None, "a", {"a": 1}, [[1], [1, 2]], [1.5], np.ones((2, 2))])
def test_an_answer_that_breaks_the_description_is_the_endpoints_fault(value):
    descriptor = NumpyNdarray(dtype="int8", enforce_dtype=True, shape=(-1,), enforce_shape=True)

    with pytest.raises(BadModelOutput):
        descriptor.encode(value)


def test_a_sample_gives_dtype_and_shape_with_a_free_first_dimension():
    descriptor = NumpyNdarray.from_sample(np.ones((2, 3), "float32"), enforce_shape=True)

    assert (descriptor.dtype, descriptor.shape) == (np.dtype("float32"), (-1, 3))
    assert decoded(descriptor, [[1, 2, 3]] * 5).shape == (5, 3)


def test_only_as_many_elements_as_the_sample_has_are_reshaped_to_its_shape():
    descriptor = NumpyNdarray.from_sample([[1.5, 2.5]])

    assert decoded(descriptor, [1, 2]).tolist() == [[1, 2]]
    assert decoded(descriptor, [[1, 2], [3, 4]]).shape == (2, 2)
    for other in ([1, 2, 3, 4], [[1, 2, 3, 4]]):
        assert decoded(descriptor, other).tolist() == other


def test_openapi_shows_the_shape_and_the_sample():
    descriptor = NumpyNdarray.from_sample([[1.5, 2.5]])

    request = descriptor.openapi_request()["content"]
    row = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    assert request["application/json"] == {
        "schema": {"type": "array", "items": row},
        "example": [[1.5, 2.5]],
    }
    assert request["application/vnd.numpy"]["schema"]["format"] == "binary"
    assert list(descriptor.openapi_response()["content"]) == ["application/json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dtype": "nonsense"}, "dtype: 'nonsense' is not a numpy dtype"),
        ({"shape": (2, -2)}, "integers of at least -1, got -2"),
        ({"shape": (2, "a")}, "integers of at least -1, got 'a'"),
        ({"enforce_dtype": True}, "enforce_dtype=True needs a dtype"),
        ({"enforce_shape": True}, "enforce_shape=True needs a shape"),
    ],
)
def test_a_wrong_description_is_refused_when_it_is_made(arguments, words):
    with pytest.raises(ValueError, match=words):
        NumpyNdarray(**arguments)
