from __future__ import annotations

import datetime as dt
import string

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from headrace.codecs import decode_input, decode_request, encode_response
from headrace.codecs.array import array_of, tensor_of
from headrace.codecs.frame import frame_of, tensors_of
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor

DTYPES = ["?", "u1", "<u2", "<u4", "<u8", "i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8"]
NUMBERS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0))
)
NAMES = st.lists(st.text(string.ascii_letters, min_size=1), min_size=1, max_size=4, unique=True)


@given(NUMBERS)
def test_an_array_of_numbers_survives_bit_for_bit(array):
    (tensor,) = encode_response(array).outputs
    back = decode_input(tensor)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(st.lists(st.text()))
def test_a_list_of_text_survives(texts):
    response = encode_response(texts or np.array([], dtype=str))
    assert decode_request(InferenceRequest(response.outputs), "str") == texts


@given(st.lists(st.binary(), min_size=1))
def test_a_list_of_bytes_survives_as_base64(values):
    (tensor,) = encode_response(values).outputs
    assert tensor.content_type == "base64"
    assert decode_input(tensor) == values


@given(st.lists(st.datetimes(), min_size=1))
def test_a_list_of_times_survives(values):
    (tensor,) = encode_response(values).outputs
    assert decode_input(tensor) == values


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_values_of_json_survive_as_json_cells(value):
    (tensor,) = encode_response([value, value]).outputs
    assert tensor.shape == [2]
    assert decode_input(tensor) == [value, value]


@given(names=NAMES, rows=st.integers(1, 5), data=st.data())
@settings(max_examples=50)
def test_a_frame_of_one_dtype_survives(names, rows, data):
    dtype = data.draw(st.sampled_from(DTYPES))
    frame = pd.DataFrame({n: data.draw(hnp.arrays(dtype, rows)) for n in names})
    pd.testing.assert_frame_equal(frame_of(tensors_of(frame)), frame)


def test_a_frame_of_mixed_columns_survives():
    frame = pd.DataFrame(
        {
            "text": ["a", "ü"],
            "flag": [True, False],
            "whole": np.array([1, 2], np.int32),
            "bytes": [b"\xff", b""],
            "nested": [{"a": [1]}, [None]],
        }
    )
    pd.testing.assert_frame_equal(frame_of(tensors_of(frame)), frame)


def test_times_survive_to_the_nanosecond():
    frame = pd.DataFrame({"t": np.array(["2020-01-01T00:00:00.123456789"], "M8[ns]")})
    pd.testing.assert_frame_equal(frame_of(tensors_of(frame)), frame)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        pytest.param(pd.Series(["a", None]), ["a", None], id="text"),
        pytest.param(pd.Series([b"a", None]), ["YQ==", None], id="bytes"),
        pytest.param(pd.Series([True, None], dtype="boolean"), [True, None], id="boolean"),
        pytest.param(pd.Series([2**53 + 1, None], dtype="Int64"), [2**53 + 1, None], id="int"),
        pytest.param(
            pd.Series(pd.to_datetime(["2020-01-01", None])),
            ["2020-01-01T00:00:00", None],
            id="datetime",
        ),
        pytest.param(pd.Series(["u", None], dtype="category"), ["u", None], id="category"),
    ],
)
def test_missing_values_become_null(column, expected):
    (tensor,) = tensors_of(column.to_frame("c"))
    assert decode_input(tensor)[1] is None
    assert str(decode_input(tensor)[0]).startswith(str(expected[0]))


def test_nullable_integers_with_gaps_become_floats_with_nan():
    (tensor,) = tensors_of(pd.DataFrame({"c": pd.array([1, None], dtype="Int64")}))
    assert tensor.datatype == "FP64"
    np.testing.assert_array_equal(decode_input(tensor), [1.0, np.nan])


def test_nullable_integers_without_gaps_stay_integers():
    (tensor,) = tensors_of(pd.DataFrame({"c": pd.array([1, 2], dtype="Int32")}))
    assert tensor.datatype == "INT32"


def test_a_time_with_a_zone_keeps_it():
    frame = pd.DataFrame({"t": pd.to_datetime(["2020-01-01T00:00:00+02:00"])})
    (tensor,) = tensors_of(frame)
    assert decode_input(tensor)[0].utcoffset() == dt.timedelta(hours=2)


def test_numbers_are_read_in_place():
    data = bytearray(np.arange(3.0).tobytes())
    array = array_of(Tensor("x", "FP64", [3], data))
    data[:8] = np.float64(7).tobytes()
    assert array[0] == 7


def test_a_writable_array_leaves_the_bytes_alone():
    data = np.arange(3.0).tobytes()
    array = array_of(Tensor("x", "FP64", [3], data), writable=True)
    array += 1
    assert np.frombuffer(data)[0] == 0


def test_bf16_widens_to_float32():
    bits = (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    array = array_of(Tensor("x", "BF16", [2], bits.tobytes()))
    assert array.dtype == np.float32
    assert array.tolist() == [1.5, -2.0]


def test_big_endian_arrays_are_byte_swapped():
    assert array_of(tensor_of("x", np.array([1, 2], ">i4"))).tolist() == [1, 2]
