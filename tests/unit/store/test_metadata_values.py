"""Metadata: what is kept, what it becomes, and what is refused."""

from __future__ import annotations

import datetime
import enum
from typing import Any

import numpy as np
import pandas as pd
import pytest

from headrace.errors import InvalidInput
from headrace.store.metadata_values import normalised

DAY = datetime.date(2026, 1, 2)
MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 6)  # noqa: DTZ001 - numpy's have no zone


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (np.array([2, 3, 4], np.uint32), [2, 3, 4]),
        (np.array([[1.5], [2.5]]), [[1.5], [2.5]]),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.datetime64("2026-01-02T03:04:05.000006123"), MOMENT),
        (np.timedelta64(1500, "ns"), datetime.timedelta(microseconds=1)),
        (np.datetime64("NaT", "ns"), None),
        (pd.Series([1, 2]), [1, 2]),
        (pd.Index(["a"]), ["a"]),
        (pd.DataFrame({"x": [1], "y": ["b"]}), {"x": [1], "y": ["b"]}),
        (pd.array([1, None], "Int64"), [1, None]),
        (pd.Categorical(["a"]), ["a"]),
        (pd.Timestamp("2026-01-02T03:04:05.000006123"), MOMENT),
        (pd.Timedelta("1D"), datetime.timedelta(days=1)),
        (pd.Period("2026-01"), "2026-01"),
        (pd.Interval(0, 1), "(0, 1]"),
        (pd.NaT, None),
        (DAY, DAY),
        ((1, [2, {"a": np.int8(3)}]), (1, [2, {"a": 3}])),
        (Colour.RED, "red"),
        (1 + 2j, 1 + 2j),
        (b"\x00", b"\x00"),
        (None, None),
    ],
)
def test_a_value_is_kept_in_the_types_of_python(value: Any, kept: Any) -> None:
    found = normalised({"key": value})

    assert found == {"key": kept}
    assert type(found["key"]) is type(kept)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": object()}, r"metadata\.a: object is not kept"),
        ({"a": [0, {1, 2}]}, r"metadata\.a\[1\]: set is not kept"),
        ({"a": {"b": pd}}, r"metadata\.a\.b: module"),
        ({("a",): 1}, "a key is tuple"),
        ({float("nan"): 1}, "a key is float"),
        (np.zeros(2), "expected a dict, got numpy.ndarray"),
        ({"a": np.array([object()])}, r"metadata\.a\[0\]: object"),
        ({"a": np.longdouble(1)}, "has no counterpart"),
    ],
)
def test_anything_else_is_refused_with_its_place(value: Any, where: str) -> None:
    with pytest.raises(InvalidInput, match=where):
        normalised(value)


def test_what_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)

    with pytest.raises(InvalidInput, match="nested deeper"):
        normalised({"a": loop})
