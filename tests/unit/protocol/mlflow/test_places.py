"""A value of a wrong type is refused with its column and row, however many are right."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.errors import InvalidInput
from headrace.protocol.mlflow.scoring import decode
from headrace.protocol.mlflow.signature import Signature

ROWS = 17_204


def refusal(kind: str, cells: list[Any], form: str) -> str:
    signature = Signature.parse({"inputs": [{"type": kind, "name": "age"}]})
    bodies: dict[str, Any] = {
        "dataframe_split": {"columns": ["age"], "data": [[cell] for cell in cells]},
        "dataframe_records": [{"age": cell} for cell in cells],
        "inputs": {"age": cells},
    }
    with pytest.raises(InvalidInput) as refused:
        decode(json.dumps({form: bodies[form]}).encode(), "application/json", signature)
    return str(refused.value)


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "inputs"])
@pytest.mark.parametrize(
    ("kind", "right", "wrong", "says"),
    [
        ("double", 1.5, "old", "expected a number (double), got text"),
        ("long", 1, [1], "expected a number (long), got "),
        ("string", "old", 5, "expected text (string), got "),
        ("boolean", True, "yes", "expected true or false (boolean), got text"),
        ("boolean", True, 2, "expected true or false (boolean), got "),
    ],
)
def test_the_row_and_the_column_of_a_wrong_type_are_named(
    form: str, kind: str, right: Any, wrong: Any, says: str
) -> None:
    said = refusal(kind, [right] * ROWS + [wrong], form)

    assert said.startswith(f"column 'age', row 17,204: {says}")
