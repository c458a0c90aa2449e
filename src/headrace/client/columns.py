"""Makes columns what the metadata of the model's inputs says they are."""

from __future__ import annotations

import datetime as dt
import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from headrace.codecs.bytes_elements import parse_time
from headrace.errors import shorten
from headrace.protocol.datatypes import DATATYPES, Datatype
from headrace.protocol.mlflow.number_text import whole_number_of
from headrace.protocol.tensor import Tensor

# The content types that only the model's metadata tells from other text.
WRITTEN_AS_TEXT = ("datetime", "base64")
BYTES = (str, bytes)
# What the cells of an input of text, times or bytes may be.
CELLS: dict[str, tuple[str, tuple[type, ...]]] = {
    "str": ("text", (str,)),
    "datetime": ("a time", (str, dt.date)),
    "base64": ("bytes or base64", BYTES),
}
# What a truth value may be where it is text.
WORDS = {"true": True, "false": False, "1": True, "0": False}

Metadata = Sequence[Mapping[str, Any]]


class Fitted(NamedTuple):
    """Columns as the model takes them, and why the rows at some positions do not fit.

    `left_out` marks the rows that are to be sent without an input that need not be there.
    """

    columns: dict[str, Any]
    faults: dict[int, str]
    left_out: dict[str, np.ndarray[Any, Any]]


def content_type_of(item: Mapping[str, Any]) -> str | None:
    """How the metadata of an input says that its elements are written."""
    parameters = item.get("parameters")
    found = parameters.get("content_type") if isinstance(parameters, Mapping) else None
    return found if isinstance(found, str) else None


def element_of(inputs: Metadata) -> str | None:
    """The name of the only input, if each of its elements is a JSON value that is a whole row."""
    if len(inputs) != 1 or content_type_of(inputs[0]) != "pd_json":
        return None
    return str(inputs[0]["name"])


def as_elements(frame: Any, inputs: Metadata, *, from_text: bool = False) -> Any:
    """The rows of a DataFrame as objects, if the model takes such; a row has no empty cells.

    With `from_text`, a cell that is a number or a truth value of JSON is one.
    """
    name = element_of(inputs)
    if name is None or list(frame.columns) == [name]:
        return frame
    import pandas as pd

    names = list(map(str, frame.columns))
    gaps = frame.isna().to_numpy()
    rows = [
        {
            names[at]: json_cell(cell) if from_text and isinstance(cell, str) else cell
            for at, cell in enumerate(row.values())
            if not gap[at]
        }
        for row, gap in zip(frame.to_dict("records"), gaps, strict=True)
    ]
    return pd.DataFrame({name: pd.Series(rows, dtype=object, index=frame.index)})


def json_cell(text: str) -> Any:
    """A cell of a CSV file as the number or truth value that it is in JSON, else as it is."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_value = isinstance(found, (bool, int, float)) and math.isfinite(found)
    return found if is_value else text


def is_plain_text(tensor: Tensor) -> bool:
    """Whether a tensor was made of text, which may stand for a time or for bytes."""
    return tensor.datatype == "BYTES" and tensor.content_type == "str"


def labelled(tensors: Iterable[Tensor], inputs: Metadata) -> list[Tensor]:
    """The tensors; text for an input that takes times or base64 is marked as such."""
    kinds = {item["name"]: content_type_of(item) for item in inputs}
    return [
        Tensor(
            tensor.name,
            tensor.datatype,
            tensor.shape,
            tensor.data,
            {**(tensor.parameters or {}), "content_type": kinds[tensor.name]},
        )
        if is_plain_text(tensor) and kinds.get(tensor.name) in WRITTEN_AS_TEXT
        else tensor
        for tensor in tensors
    ]


def fitted(frame: Any, inputs: Metadata, *, from_text: bool, are_digits: bool = False) -> Fitted:
    """The columns of a DataFrame; those of objects become the numbers that the model takes.

    With `from_text`, as in a CSV file, text that is a number or a truth value becomes one. With
    `are_digits`, as there and in JSON, integers have no type of their own, and become the nearest
    floats where the model takes floats; without, they have to be exact. A cell that does not fit is
    a fault of its row, and means nothing in its column. Where the model does not require an input,
    a column without any value is left out, and a missing integer or truth value is: nothing in a
    tensor of these stands for it.
    """
    known = {item["name"]: item for item in inputs}
    columns: dict[str, Any] = {}
    faults: dict[int, str] = {}
    left_out: dict[str, np.ndarray[Any, Any]] = {}
    for position, label in enumerate(frame.columns):
        name, series = str(label), frame.iloc[:, position]
        item = known.get(name)
        row = DATATYPES.get(str(item.get("datatype"))) if item is not None else None
        if item is None or row is None or not is_of_objects(series):
            is_rounded = are_digits and row is not None and row.is_float
            is_rounded = is_rounded and series.dtype.kind in "iu"
            columns[name] = series.astype(np.float64) if is_rounded else series
            continue
        missing = series.isna().to_numpy()
        if missing.all() and _is_optional(item):
            continue
        cells = series.astype(object).to_numpy()
        if row.itemsize:
            if missing.any() and _is_optional(item) and not row.is_float:
                left_out[name] = missing
                cells = np.where(
                    missing, np.array(False if row.name == "BOOL" else 0, object), cells
                )
                missing = np.zeros_like(missing)
            found = _integers_at_once(row, series) if from_text else None
            if found is None:
                convert = _converter(row, from_text, are_digits)
                found = _numbers(name, row, cells, missing, convert, faults)
            columns[name] = found
        else:
            columns[name] = cells
            # Text of a file fits everywhere but for times.
            text = from_text and content_type_of(item) != "datetime"
            places = np.flatnonzero(missing).tolist() if text else range(len(cells))
            faults = {**_unlike_text(name, item, cells, missing, places), **faults}
    return Fitted(columns, faults, left_out)


def is_of_objects(series: Any) -> bool:
    """Whether a column holds text or objects, or integers some of which are missing."""
    dtype = series.dtype
    return dtype.kind == "O" or dtype.kind in "iub" and not isinstance(dtype, np.dtype)


def _is_optional(item: Mapping[str, Any]) -> bool:
    parameters = item.get("parameters")
    return isinstance(parameters, Mapping) and parameters.get("required") is False


def _unlike_text(
    name: str,
    item: Mapping[str, Any],
    cells: np.ndarray[Any, Any],
    missing: np.ndarray[Any, Any],
    places: Iterable[int],
) -> dict[int, str]:
    """The cells that are not written as the input takes them: one makes JSON of all."""
    what, kinds = CELLS.get(content_type_of(item) or "", ("", (object,)))
    # Text and times may be missing.
    needed = kinds is BYTES and not _is_optional(item)
    is_time = content_type_of(item) == "datetime"
    faults = {}
    for at in places:
        cell = cells[at]
        absent = bool(missing[at])
        fits = not needed if absent else isinstance(cell, kinds)
        if is_time and fits and isinstance(cell, str) and not _is_iso_time(cell):
            what, fits = "a time as in ISO 8601 (2024-05-07 or 2024-05-07T12:30:00)", False
        if not fits:
            got = "nothing" if absent else shorten(repr(cell))
            faults[at] = f"column '{shorten(name)}': expected {what}, got {got}"
    return faults


def _is_iso_time(text: str) -> bool:
    try:
        parse_time(text)
    except ValueError:
        return False
    return True


def _integers_at_once(row: Datatype, series: Any) -> np.ndarray[Any, Any] | None:
    """A column of text that holds nothing but integers of the datatype; None if it does not."""
    import pandas as pd

    try:
        found: np.ndarray[Any, Any] = pd.to_numeric(series).to_numpy()
    except (ValueError, TypeError):
        return None
    if not row.is_integer or found.dtype.kind not in "iu" or not found.size:
        return None
    assert row.low is not None
    assert row.high is not None
    fits = row.low <= int(found.min()) and int(found.max()) <= row.high
    return found.astype(row.numpy) if fits else None


def _numbers(
    name: str,
    row: Datatype,
    cells: np.ndarray[Any, Any],
    missing: np.ndarray[Any, Any],
    convert: Callable[[Any], Any],
    faults: dict[int, str],
) -> np.ndarray[Any, Any]:
    """The cells as numbers of the datatype; those that do not fit are added to `faults`."""
    values: list[Any] = [0] * len(cells)
    shape: tuple[int, ...] | None = None
    for at, cell in enumerate(cells):
        try:
            if isinstance(cell, (list, tuple, np.ndarray)):
                values[at] = _nested(cell, convert)
            elif missing[at]:
                values[at] = convert(None)
            else:
                values[at] = convert(cell)
            found = np.shape(values[at])
            shape = found if shape is None else shape
            if found != shape:
                values[at] = 0
                faults.setdefault(
                    at, f"column '{shorten(name)}': expected shape {list(shape)}, got {list(found)}"
                )
        except (ValueError, TypeError, OverflowError):
            got = "nothing" if bool(missing[at]) else shorten(repr(cell))
            words = " (true, false, 1 or 0)" if row.name == "BOOL" and isinstance(cell, str) else ""
            faults.setdefault(
                at, f"column '{shorten(name)}': expected {row.name}{words}, got {got}"
            )
    dtype = np.dtype(np.float32 if row.name == "BF16" else row.numpy)
    if not shape:
        return np.array(values, dtype)
    filled = np.zeros((len(values), *shape), dtype)
    for at, value in enumerate(values):
        if at not in faults:
            filled[at] = value
    return filled


def _nested(cell: Any, convert: Callable[[Any], Any]) -> Any:
    if isinstance(cell, (list, tuple, np.ndarray)):
        return [_nested(each, convert) for each in cell]
    return convert(cell)


def _converter(row: Datatype, from_text: bool, are_digits: bool) -> Callable[[Any], Any]:
    """What makes a value of the datatype out of a cell, or raises an error."""
    if row.is_float:
        largest = float(np.finfo(row.numpy if row.name != "BF16" else "<f4").max)
        return lambda cell: _float(_untyped(cell, from_text), largest, are_digits)
    if row.is_integer:
        assert row.low is not None
        assert row.high is not None
        low, high = row.low, row.high
        return lambda cell: _integer(_untyped(cell, from_text), low, high)
    return lambda cell: _truth(cell, from_text)


def _untyped(cell: Any, from_text: bool) -> Any:
    """A cell that may be a number: Python accepts more, `True` and `"1_000"` among others."""
    if isinstance(cell, (bool, np.bool_, bytes)):
        raise TypeError
    if isinstance(cell, str) and (not from_text or "_" in cell):
        raise TypeError
    return cell


def _float(cell: Any, largest: float, are_digits: bool) -> float:
    if cell is None:
        return math.nan
    number = float(cell)
    if not are_digits and isinstance(cell, int) and int(number) != cell:
        raise ValueError
    written_out = math.isfinite(number) or isinstance(cell, str) and "inf" not in cell.lower()
    if abs(number) > largest and written_out:
        raise OverflowError
    return number


def _integer(cell: Any, low: int, high: int) -> int:
    if isinstance(cell, str):
        found = whole_number_of(cell)
        if found is None:
            raise ValueError
        number = found
    elif isinstance(cell, (float, np.floating)):
        number = int(cell)
        if number != cell:
            raise ValueError
    else:
        number = operator.index(cell)
    if not low <= number <= high:
        raise OverflowError
    return number


def _truth(cell: Any, from_text: bool) -> bool:
    if isinstance(cell, (bool, np.bool_)):
        return bool(cell)
    if from_text and isinstance(cell, str) and cell.strip().lower() in WORDS:
        return WORDS[cell.strip().lower()]
    raise TypeError
