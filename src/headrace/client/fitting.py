"""Makes what a caller of the client gives what the model's metadata says that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.client import columns
from headrace.client.client_errors import InvalidRequest
from headrace.client.inputs import is_frame
from headrace.errors import shorten
from headrace.protocol.datatypes import DATATYPES


def depends_on_model(inputs: Any) -> bool:
    """Whether named inputs hold objects or lists, of which only the model knows what they are."""
    if is_frame(inputs):
        return any(columns.is_of_objects(inputs.iloc[:, at]) for at in range(inputs.shape[1]))
    if isinstance(inputs, Mapping):
        return any(isinstance(value, list) and _is_nested(value) for value in inputs.values())
    return False


def as_taken(inputs: Any, known: columns.Metadata) -> Any:
    """The inputs; numbers among objects are made numbers, and lists of JSON values their elements.

    Raises:
        InvalidRequest: a cell is no such number; the message names its column and row.
    """
    if is_frame(inputs):
        return _frame(columns.as_elements(inputs, known), known)
    takes_json = {item["name"] for item in known if columns.content_type_of(item) == "pd_json"}
    if isinstance(inputs, Mapping):
        return {
            key: _elements(value) if key in takes_json and isinstance(value, list) else value
            for key, value in inputs.items()
        }
    is_list = isinstance(inputs, list) and len(known) == 1 and bool(takes_json)
    return _elements(inputs) if is_list else inputs


def _is_nested(values: list[Any]) -> bool:
    return bool(values) and isinstance(values[0], (list, dict))


def _elements(values: list[Any]) -> np.ndarray[Any, Any]:
    """One element for each item, whatever it holds: numpy would take lists for dimensions."""
    found = np.empty(len(values), dtype=object)
    for at, value in enumerate(values):
        found[at] = value
    return found


def _frame(frame: Any, known: columns.Metadata) -> Any:
    """The DataFrame, in which the columns of objects for numbers hold numbers."""
    takes = {item["name"]: item for item in known}
    numbers = [
        at
        for at, label in enumerate(frame.columns)
        if str(label) in takes
        and _is_number(takes[str(label)])
        and columns.is_of_objects(frame.iloc[:, at])
    ]
    # Columns of one name are refused with the rest.
    if not numbers or not frame.columns.is_unique:
        return frame
    found = columns.fitted(frame.iloc[:, numbers], known, from_text=False)
    if found.faults:
        at = min(found.faults)
        raise InvalidRequest(f"row {at:,}: {found.faults[at]}")
    for name, mask in found.left_out.items():
        at = int(mask.argmax())
        raise InvalidRequest(
            f"row {at:,}: column '{shorten(name)}': expected {takes[name]['datatype']}, got "
            "nothing; the input may be left out of a whole request only"
        )
    rest = {str(label): frame.iloc[:, at] for at, label in enumerate(frame.columns)}
    left_out = {str(frame.columns[at]) for at in numbers} - set(found.columns)
    return {
        name: found.columns.get(name, column)
        for name, column in rest.items()
        if name not in left_out
    }


def _is_number(item: Mapping[str, Any]) -> bool:
    row = DATATYPES.get(str(item.get("datatype")))
    return row is not None and bool(row.itemsize)
