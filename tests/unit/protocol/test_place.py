"""Where a message says that a value is."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.protocol.place import place, refusal


@pytest.mark.parametrize(
    ("index", "shape", "says"),
    [
        (0, [], "input 'x'"),
        (17_204, [20_000], "input 'x', row 17,204"),
        (17_204, [20_000, 1], "input 'x', row 17,204"),
        (7, [3, 4], "input 'x', row 1, column 3"),
        (3, [1, 4], "input 'x', row 0, column 3"),
        (23, [2, 3, 4], "input 'x', row 1, element [2, 3]"),
    ],
)
def test_a_place_is_a_row_and_a_column_of_the_shape(index, shape, says):
    assert place("input 'x'", index, shape) == says


def test_places_of_three_dimensions_are_those_of_numpy():
    shape = (2, 3, 4)
    for index in range(24):
        row, *inner = (int(at) for at in np.unravel_index(index, shape))
        assert place("x", index, shape) == f"x, row {row}, element {inner}"


def test_a_refusal_says_where_expected_and_got():
    error = refusal("column 'age'", 17_204, [20_000], "FP64", "text")
    assert error.message == "column 'age', row 17,204: expected FP64, got text"
