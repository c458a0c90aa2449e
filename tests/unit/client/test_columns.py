"""Columns as the metadata of the model's inputs describes them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from headrace.client.columns import fitted
from headrace.client.reasons import Reasons
from headrace.client.sources import Selection


def column(cells: list[Any], datatype: str, *, from_text: bool = True, **parameters: Any) -> Any:
    item = {"name": "c", "datatype": datatype, "shape": [-1], "parameters": parameters}
    frame = pd.DataFrame({"c": pd.Series(cells, dtype=object)})
    return fitted(frame, [item], from_text=from_text)


@pytest.mark.parametrize(
    ("datatype", "cells", "expected"),
    [
        ("FP64", ["0.1", "1e300", "-inf", "7"], [0.1, 1e300, float("-inf"), 7.0]),
        ("FP32", ["0.5", 2, 1.5], [0.5, 2.0, 1.5]),
        ("INT64", ["9007199254740993", "9007199254740993.0", "1e3"], [2**53 + 1, 2**53 + 1, 1000]),
        ("INT64", ["9007199254740993", "-1"], [2**53 + 1, -1]),
        ("UINT64", [str(2**64 - 1), "0"], [2**64 - 1, 0]),
        ("INT8", [1, 2.0, "3"], [1, 2, 3]),
        ("BOOL", ["true", "FALSE", "1", "0", True], [True, False, True, False, True]),
    ],
)
def test_text_becomes_exactly_the_number_that_the_model_takes(datatype, cells, expected):
    found = column(cells, datatype)

    assert found.faults == {}
    assert found.columns["c"].tolist() == expected


@pytest.mark.parametrize(
    ("datatype", "cell"),
    [
        ("FP64", "1_000"), ("FP64", "1e400"), ("FP64", True), ("FP64", 2**53 + 1), ("FP64", b"1"),
        ("FP32", "1e39"), ("INT64", "1.5"), ("INT64", "1e999999999"), ("INT64", "nan"),
        ("INT64", None), ("INT8", "128"), ("UINT8", -1), ("BOOL", "yes"), ("BOOL", None),
    ],
)  # fmt: skip
def test_a_cell_that_would_change_is_a_fault_of_its_row(datatype, cell):
    found = column(["1", cell, "0"], datatype)

    assert list(found.faults) == [1]
    assert found.faults[1].startswith(f"column 'c': expected {datatype}")


def test_text_is_a_number_in_text_files_only():
    assert list(column([1, "1"], "FP64", from_text=False).faults) == [1]


def test_a_missing_number_is_nan_where_the_datatype_has_one():
    found = column(["1", None], "FP64")

    assert found.faults == {}
    assert pd.isna(found.columns["c"][1])


def test_a_column_without_values_is_left_out_if_the_model_does_not_need_it():
    assert column([None, None], "INT64", required=False).columns == {}
    assert len(column([None, None], "INT64").faults) == 2


@pytest.mark.parametrize(("needed", "faults"), [(True, [1]), (False, [])])
def test_bytes_may_be_missing_only_where_the_model_does_not_require_them(needed, faults):
    found = column(["YQ==", None], "BYTES", content_type="base64", required=needed)

    assert list(found.faults) == faults


def test_rows_of_lists_must_have_one_shape():
    found = column([[1, 2], [3], [4, "x"], [5, 6]], "INT64", from_text=False)

    assert list(found.faults) == [1, 2]
    assert found.columns["c"][[0, 3]].tolist() == [[1, 2], [5, 6]]


def test_a_kept_column_is_sent_only_if_the_model_takes_it():
    inputs = [{"name": "x"}]

    assert Selection(keep=("id", "x")).sent(["id", "x", "y"], inputs) == ["x", "y"]
    assert Selection(ignore_extra=True).sent(["id", "x", "y"], inputs) == ["x"]


def test_reasons_that_differ_in_their_numbers_are_counted_together():
    reasons = Reasons()
    for at in range(7):
        reasons.add(f"row {at}: too large", at, 1)
    reasons.add("no such column", 7, 100)
    for word in "abcdefg":
        reasons.add(f"unknown {word}", 107, 1)

    lines = list(reasons.lines())
    assert lines[:2] == [
        "100 entries, the first is entry 8: no such column",
        "7 entries, the first is entry 1: row 0: too large",
    ]
    assert lines[-1] == "4 entries for 4 other reasons"
    assert reasons.total == 114


@pytest.mark.parametrize("dtype", ["int64", "object"])
def test_digits_of_a_file_are_the_nearest_float_and_integers_with_a_type_are_exact(dtype):
    frame = pd.DataFrame({"c": pd.Series([2**53 + 1, 5], dtype=dtype)})
    item = {"name": "c", "datatype": "FP64", "shape": [-1]}

    digits = fitted(frame, [item], from_text=False, are_digits=True)
    assert digits.faults == {}
    assert digits.columns["c"].tolist() == [2.0**53, 5.0]
    typed = fitted(frame, [item], from_text=False)
    if dtype == "object":
        assert typed.faults == {0: "column 'c': expected FP64, got 9007199254740993"}
    else:
        # The server refuses what it would have to round.
        assert typed.columns["c"].tolist() == [2**53 + 1, 5]
