"""A value of the wrong type is named by row and column over every transport that can carry one."""

from __future__ import annotations

import pytest

from conformance.transports import Refused, Tensor

ROWS, COLUMNS = 100, 400


@pytest.fixture
def rest(transports):
    return transports["REST JSON"]


def refusal(transport, tensor):
    with pytest.raises(Refused) as refused:
        transport.infer("double", [tensor])
    return refused.value.message


@pytest.mark.parametrize(
    ("datatype", "fill", "value", "got"),
    [
        ("FP64", 0.5, "1.5", "a number (FP64), got text"),
        ("FP64", 0.5, True, "a number (FP64), got true or false"),
        ("FP64", 0.5, {"a": 1}, "a number (FP64), got an object"),
        ("FP32", 0.5, 1e300, "FP32, a number from"),
        ("INT64", 1, 1.5, "INT64, a whole number from"),
        ("INT64", 1, None, "a whole number (INT64), got null"),
        ("INT8", 1, 300, "INT8, a whole number from -128 to 127, got a number that does not fit"),
        ("BOOL", True, 2, "true, false, 0 or 1 (BOOL), got another number"),
        ("BOOL", True, 0.5, "true or false (BOOL), got a number"),
        ("BYTES", "a, [1]", 5, "text (BYTES), got a number"),
        ("BYTES", 'a"\\', None, "text (BYTES), got null"),
    ],
    ids=str,
)
@pytest.mark.parametrize("rows", [18, ROWS], ids=["small", "large"])
@pytest.mark.parametrize("is_nested", [False, True], ids=["flat", "nested"])
def test_a_value_of_another_type_in_json_has_its_row_and_column(
    rows, is_nested, datatype, fill, value, got, rest
):
    width = 8 if rows == 18 else COLUMNS
    column = 4 if rows == 18 else 204
    values = [fill] * (rows * width)
    values[17 * width + column] = value
    if is_nested:
        values = [values[start : start + width] for start in range(0, len(values), width)]
    message = refusal(rest, Tensor("x", datatype, [rows, width], values))
    assert message.startswith(f"input 'x', row 17, column {column}: expected {got}")


@pytest.mark.parametrize("name", ["gRPC typed", "native gRPC typed"])
def test_a_number_out_of_range_over_grpc_has_its_row_and_column(name, transports):
    values = [1] * (20 * 300)
    values[17 * 300 + 204] = 300
    message = refusal(transports[name], Tensor("x", "INT8", [20, 300], values))
    assert message.startswith("input 'x', row 17, column 204: expected INT8, a whole number from")


def test_rows_of_three_dimensions_have_a_position_below_them(rest):
    data = [[[1, 2], [3, 4]], [[5, 6], [7, "8"]]]
    message = refusal(rest, Tensor("x", "FP64", [2, 2, 2], data))
    assert message == "input 'x', row 1, element [1, 1]: expected a number (FP64), got text"
