from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import BadModelOutput, InvalidInput
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.open_inference import rest_data
from headrace.protocol.open_inference.rest_data import json_values, pack_json
from headrace.protocol.tensor import Tensor, unpack_bytes

INTEGERS = [name for name, row in DATATYPES.items() if row.is_integer]


@pytest.fixture(params=["small", "large"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the same data through both paths."""
    monkeypatch.setattr(rest_data, "LARGE", 0 if request.param == "large" else 2**40)


def pack(data: Any, datatype: str, shape: list[int]) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return bytes(pack_json(text.encode(), DATATYPES[datatype], shape, math.prod(shape), "ages"))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("datatype", INTEGERS)
def test_the_limits_of_an_integer_type_fit(datatype: str) -> None:
    row = DATATYPES[datatype]
    packed = np.frombuffer(pack([row.low, row.high], datatype, [2]), row.numpy)
    assert packed.tolist() == [row.low, row.high]


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("datatype", INTEGERS)
@pytest.mark.parametrize("step", [-1, 1])
def test_one_past_the_limits_is_refused(datatype: str, step: int) -> None:
    row = DATATYPES[datatype]
    outside = (row.low if step < 0 else row.high) + step
    with pytest.raises(InvalidInput, match="'ages', row 1: expected") as caught:
        pack([0, outside], datatype, [2])
    assert f"expected {datatype}, a whole number from {row.low} to {row.high}, got" in str(
        caught.value
    )


@pytest.mark.usefixtures("path")
def test_three_hundred_in_uint8_is_refused_without_echo() -> None:
    with pytest.raises(InvalidInput, match="row 2: expected UINT8") as caught:
        pack([1, 2, 300], "UINT8", [3])
    assert "300" not in str(caught.value)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("value", ["1.9", "1e-3", "1e300", "9007199254740993.0", "9" * 400])
def test_a_number_that_is_not_an_exact_integer_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput, match=r"'ages'.*INT64"):
        pack(f"[0, {value}]", "INT64", [2])


@pytest.mark.usefixtures("path")
def test_whole_numbers_written_as_floats_are_integers() -> None:
    assert pack("[1.0, -2e0, 3]", "INT32", [3]) == struct.pack("<3i", 1, -2, 3)


@pytest.mark.usefixtures("path")
def test_a_large_integer_next_to_a_float_loses_nothing() -> None:
    packed = pack(f"[{2**63 - 1}, 1.0]", "INT64", [2])
    assert packed == struct.pack("<2q", 2**63 - 1, 1)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("value", ["1e300", "-1e300", "3.5e38"])
def test_a_number_that_fp32_would_make_infinite_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput, match="'ages', row 1: expected FP32"):
        pack(f"[0, {value}]", "FP32", [2])


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("value", ["1e400", "9" * 400])
def test_a_number_beyond_fp64_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput, match="'ages', row 1: expected FP64, a number from"):
        pack(f"[0, {value}]", "FP64", [2])


@pytest.mark.usefixtures("path")
def test_integers_of_any_size_are_floats() -> None:
    packed = pack("[1, 9007199254740993, 100000000000000000000]", "FP64", [3])
    assert packed == struct.pack("<3d", 1.0, 9007199254740992.0, 1e20)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_null_is_nan_at_its_place_in_flat_and_nested_data(datatype: str) -> None:
    numpy = DATATYPES[datatype].numpy
    expected = np.array([np.nan, 1.5, 2.5, np.nan, np.nan, 4.5])
    for data in ([None, 1.5, 2.5, None, None, 4.5], [[None, 1.5, 2.5], [None, None, 4.5]]):
        packed = np.frombuffer(pack(data, datatype, [2, 3]), numpy)
        np.testing.assert_array_equal(packed, expected.astype(numpy))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("datatype", ["INT32", "UINT64", "BOOL", "BYTES"])
def test_null_is_refused_outside_float_tensors(datatype: str) -> None:
    with pytest.raises(InvalidInput, match=rf"'ages', row 0: expected .*\({datatype}\), got null"):
        pack([None], datatype, [1])


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("datatype", ["INT64", "UINT64", "FP32", "FP64", "BOOL"])
@pytest.mark.parametrize(
    ("value", "got"),
    [('"7"', "text"), ("{}", "an object")],
    ids=["string", "object"],
)
def test_values_other_than_numbers_are_refused(datatype: str, value: str, got: str) -> None:
    with pytest.raises(InvalidInput, match=rf"'ages', row 1: expected .*\({datatype}\), got {got}"):
        pack(f"[1, {value}]", datatype, [2])
    with pytest.raises(InvalidInput, match=f"'ages', row 1: expected .*, got {got}"):
        pack(f"[[1], [{value}]]", datatype, [2, 1])


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("datatype", ["INT8", "FP64", "BYTES"])
def test_true_is_neither_a_number_nor_a_string(datatype: str) -> None:
    with pytest.raises(InvalidInput, match="got true or false"):
        pack("[true]", datatype, [1])


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("data", [[True, False, 1, 0], [[1, 0], [True, False]]])
def test_bool_takes_booleans_zero_and_one(data: list[Any]) -> None:
    packed = pack(data, "BOOL", [2, 2])
    assert sorted(packed) == [0, 0, 1, 1]


@pytest.mark.parametrize("value", ["2", "-1", "300", "9" * 30, "0.5", "9" * 400])
def test_other_numbers_are_not_booleans(value: str) -> None:
    with pytest.raises(InvalidInput, match=r"'ages'.*BOOL"):
        pack(f"[true, {value}]", "BOOL", [2])


@pytest.mark.parametrize(
    "text", [r'["\ud800"]', r'["\udc00 "]', r'["\ud800\u0041"]'], ids=["high", "low", "broken"]
)
def test_a_lone_surrogate_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="'ages': data holds a string that is not valid"):
        pack(text, "BYTES", [1])


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(InvalidInput, match="'ages', row 0: .* not valid Unicode"):
        pack_json(b'["\xff"]', DATATYPES["BYTES"], [1], 1, "ages")


@pytest.mark.usefixtures("path")
def test_numbers_in_json_become_the_nearest_half_floats() -> None:
    # Half a unit in the last place above 1, and a little more than that.
    numbers = f"[0.1, 1, {1 + 2**-11}, {1 + 2**-11 + 2**-30}, null, -65519]"
    expected = np.array([0.1, 1, 1, 1 + 2**-10, np.nan, -65504], "<f2")

    assert np.array_equal(np.frombuffer(pack(numbers, "FP16", [6]), "<f2"), expected, True)


@pytest.mark.usefixtures("path")
def test_numbers_in_json_become_the_nearest_brain_floats() -> None:
    # The last one would become 1 if it were rounded to a 32-bit float first.
    numbers = f"[1.5, -2, null, {1 + 2**-8}, {1 + 2**-8 + 2**-40}]"

    packed = pack(numbers, "BF16", [5])

    expected = [0x3FC0, 0xC000, 0x7FC0, 0x3F80, 0x3F81]
    assert np.frombuffer(packed, "<u2").tolist() == expected


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("datatype", "value"), [("FP16", "65520"), ("FP16", "-1e300"), ("BF16", "3.4e38")]
)
def test_a_number_that_a_half_float_would_make_infinite_is_refused(
    datatype: str, value: str
) -> None:
    with pytest.raises(InvalidInput, match=f"'ages', row 1: expected {datatype}, a number"):
        pack(f"[0, {value}]", datatype, [2])


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("datatype", ["FP64", "INT8", "BOOL"])
@pytest.mark.parametrize(
    "text",
    [
        "[1, 0, 1, 0, 1, 0]",
        "[[1, 0, 1], [0, 1, 0]]",
        "[\n  [1, 0, 1],\n  [0, 1, 0]\n]",
        "[ 1,\t0, 1, 0, 1, 0 ]",
    ],
    ids=["flat", "nested", "nested-spaced", "flat-spaced"],
)
def test_flat_and_nested_data_are_the_same_tensor(datatype: str, text: str) -> None:
    expected = np.array([1, 0, 1, 0, 1, 0], DATATYPES[datatype].numpy).tobytes()
    assert pack(text, datatype, [2, 3]) == expected


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("datatype", ["FP64", "INT8"])
@pytest.mark.parametrize(
    "text",
    [
        "[[1, 2], [3, 4, 5, 6]]",
        "[[1, 2, 3, 4], [5, 6]]",
        "[[1, 2], [3, 4], [5, 6]]",
        "[[1, 2, 3, 4, 5, 6]]",
        "[[], [1, 2, 3, 4, 5, 6]]",
        "[[[1, 2, 3], [4, 5, 6]]]",
        "[[1, 2, 3], 4, 5, 6]",
        "[1, 2, 3, [4, 5, 6]]",
        "[[1, 2, 3], [4, 5, [6]]]",
    ],
)
def test_a_lucky_total_does_not_excuse_wrong_nesting(datatype: str, text: str) -> None:
    with pytest.raises(InvalidInput, match="'ages': data"):
        pack(text, datatype, [2, 3])


@pytest.mark.usefixtures("path")
def test_single_columns_with_an_empty_row_are_refused() -> None:
    with pytest.raises(InvalidInput, match="'ages'"):
        pack("[[1], [], [2]]", "FP64", [3, 1])


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("data", [[1, 2], [1, 2, 3, 4], []], ids=["short", "long", "empty"])
def test_a_wrong_count_is_refused(data: list[int]) -> None:
    with pytest.raises(InvalidInput, match=r"shape \[3\] needs 3 elements, data has \d"):
        pack(data, "FP64", [3])


@pytest.mark.parametrize("datatype", ["FP64", "UINT8", "BOOL", "BYTES"])
@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ([0], "[]"),
        ([0, 11], "[ ]"),
        ([2, 0], "[[], []]"),
        ([2, 0, 3], "[[],[]]"),
        ([2, 0], "[]"),
        ([2**31 - 1, 0], "[]"),
        ([1, 0, 2**31 - 1], "[[]]"),
    ],
)
def test_empty_tensors_are_legal(datatype: str, shape: list[int], text: str) -> None:
    assert pack(text, datatype, shape) == b""


@pytest.mark.parametrize("text", ["[1]", "[null]", "[[],[],[]]", "[{}]", '["[]"]'])
def test_data_for_an_empty_shape_must_be_empty(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"'ages': shape \[2, 0\] has no elements"):
        pack(text, "FP64", [2, 0])


@pytest.mark.parametrize("text", ["[5]", "5"])
def test_a_scalar_shape_has_one_element(text: str) -> None:
    assert pack(text, "INT8", []) == b"\5"


@pytest.mark.parametrize("text", ["5", '"abc"', "null", "true", "{}"])
def test_data_that_is_not_an_array_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="'ages': data must be an array"):
        pack(text, "FP64", [1])


def test_deep_data_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'ages': data must be flat or nested exactly"):
        pack("[" * 100_000 + "1" + "]" * 100_000, "FP64", [1, 1])


def test_large_data_of_each_path_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).normal(size=(100, 20)).tolist()
    large = pack(data, "FP32", [100, 20])
    monkeypatch.setattr(rest_data, "LARGE", 2**40)
    assert large == pack(data, "FP32", [100, 20])


def elements(datatype: str) -> st.SearchStrategy[Any]:
    row = DATATYPES[datatype]
    if row.is_integer:
        return st.integers(row.low, row.high)
    if datatype == "BOOL":
        return st.booleans()
    if datatype == "BYTES":
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    width = {"FP16": 16, "FP32": 32}.get(datatype, 64)
    return st.floats(width=width, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("large", [0, 2**40], ids=["large", "small"])
@pytest.mark.parametrize("datatype", [n for n in DATATYPES if n != "BF16"])
def test_json_round_trips_bit_exactly(
    datatype: str, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_data, "LARGE", large)

    @settings(max_examples=40, deadline=None, database=None)
    @given(st.lists(elements(datatype), min_size=1, max_size=6))
    def check(values: list[Any]) -> None:
        packed = pack(values, datatype, [len(values)])
        if datatype == "BYTES":
            assert [v.decode() for v in unpack_bytes(packed, len(values))] == values
        else:
            assert packed == np.array(values, DATATYPES[datatype].numpy).tobytes()
        again = json_values(Tensor("y", datatype, [len(values)], packed))
        assert [*map(type(values[0]), again)] == values

    check()


@pytest.mark.parametrize(
    ("datatype", "raw"),
    [("FP16", np.array([1.5, -2], "<f2").tobytes()), ("BF16", b"\xc0\x3f\x00\xc0")],
    ids=["FP16", "BF16"],
)
def test_half_floats_widen_in_json(datatype: str, raw: bytes) -> None:
    assert json_values(Tensor("y", datatype, [2], raw)).tolist() == [1.5, -2.0]


def test_an_output_that_is_not_text_has_to_be_requested_as_binary() -> None:
    with pytest.raises(BadModelOutput, match="'y': .*binary_data: true"):
        json_values(Tensor("y", "BYTES", [1], b"\1\0\0\0\xff"))


def test_an_output_of_bytes_cut_short_is_a_bad_output() -> None:
    with pytest.raises(BadModelOutput, match="'y'"):
        json_values(Tensor("y", "BYTES", [1], b"\5\0\0\0a"))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (b"[true,false, 1,0 ,true]", 5),
        (b"[true]", 1),
        (b"[true,,false]", 2),
        (b"[true,false,]", 2),
        (b"[true,false, ]", 2),
        (b"[,true,false]", 2),
        (b"[true,2,false]", 3),
        (b"[true,256,false]", 3),
        (b'[true,"a,b",false]', 3),
        (b"[true,[false,true],1]", 3),
        (b"[true,null]", 2),
        (b"[true,false]", 3),
    ],
)
def test_booleans_in_slices_are_read_as_all_at_once(
    monkeypatch: pytest.MonkeyPatch, text: bytes, count: int
) -> None:
    def read(large: int) -> Any:
        monkeypatch.setattr(rest_data, "LARGE", large)
        try:
            return bytes(pack_json(text, DATATYPES["BOOL"], [count], count, "x"))
        except InvalidInput as error:
            return error.message

    assert read(1) == read(10**9)


def test_many_texts_are_packed_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps([str(number) for number in range(100)]).encode()
    whole = pack_json(text, DATATYPES["BYTES"], [100], 100, "x")
    monkeypatch.setattr(rest_data, "_PACKED", 7)

    assert pack_json(text, DATATYPES["BYTES"], [100], 100, "x") == whole
