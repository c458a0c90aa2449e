"""The four JSON forms of MLflow's scoring protocol, typed by a simple signature."""

from __future__ import annotations

import math
import struct
from typing import Any

import msgspec
import numpy as np

from headrace.errors import InvalidInput, MalformedBody, listing
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.mlflow import packing
from headrace.protocol.mlflow.loose_json import load
from headrace.protocol.mlflow.packing import NeedsDataFrame
from headrace.protocol.mlflow.schema import Spec, check_shape
from headrace.protocol.mlflow.signature import Signature, check_rows
from headrace.protocol.open_inference.rest_data import pack_json
from headrace.protocol.records import absent_cells, check_size, names_of
from headrace.protocol.table_request import Table
from headrace.protocol.tensor import Tensor

# From this many bytes of JSON, a parser that creates no Python objects pays off.
_LARGE = 16 * 1024
# Absent cells take time that the size of a body does not show; that of a worker, if they are many.
_MANY = 100_000
_NAN = float("nan")
_SPLIT_KEYS = ("columns", "data", "index")


class _Split(msgspec.Struct, forbid_unknown_fields=True):
    """`dataframe_split` of numbers, for the fast path."""

    data: list[list[float | None]]
    columns: list[str]
    index: list[int | str] | None = None


class _SplitBody(msgspec.Struct, forbid_unknown_fields=True):
    """A body with nothing but that."""

    dataframe_split: _Split


class _LargeSplit(msgspec.Struct, forbid_unknown_fields=True):
    """`dataframe_split` of which the numbers are read elsewhere."""

    data: msgspec.Raw
    columns: list[str]
    index: list[int | str] | None = None


_SPLIT = msgspec.json.Decoder(_Split)
_LARGE_SPLIT = msgspec.json.Decoder(_LargeSplit)
_SPLIT_BODY = msgspec.json.Decoder(_SplitBody)


def table_of(body: bytes, signature: Signature) -> Table | None:
    """The `dataframe_split` of a small body that has just the doubles that the model takes.

    None to take the usual way, which also explains what is wrong.
    """
    names = signature.table_names
    if names is None or len(body) > _LARGE or b'"dataframe_split"' not in body:
        return None
    try:
        split = _SPLIT_BODY.decode(body).dataframe_split
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    rows = split.data
    if not rows or split.columns != names or not _is_default(split.index, len(rows)):
        return None
    if any(len(row) != len(names) for row in rows):
        return None
    return Table.of(names, rows)


def build_inputs(form: str, value: Any, signature: Signature) -> list[Tensor]:
    """The inputs of a request from one of the four forms, in schema order.

    `value` is raw JSON (`msgspec.Raw`) or already decoded; `signature` is simple.

    Raises:
        InvalidInput: the value does not fit; the message names the form, row or column.
        NeedsDataFrame: there are missing values, or an index, that only a DataFrame can hold.
    """
    if isinstance(value, msgspec.Raw):
        if form == "dataframe_split" and signature.is_columns:
            inputs = _doubles(value, signature)
            if inputs is not None:
                return inputs
        elif form in ("inputs", "instances") and len(value) > _LARGE:
            large = _large(value, signature)
            if large is not None:
                return [large]
        value = load(value)
    if form == "dataframe_split":
        names, rows = split_form(value)
        if signature.is_columns and not _is_default(value.get("index"), len(rows)):
            raise NeedsDataFrame
        return _table(names, rows, signature)
    if form == "dataframe_records":
        return _records(value, signature, form)
    if isinstance(value, dict):
        return _by_name(value, signature, form)
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return _records(value, signature, form)
    return _unnamed(value, signature, form)


def large_inputs(form: str, value: Any, signature: Signature) -> list[Tensor]:
    """As `build_inputs`, for a large value, of which no Python objects are made.

    Raises:
        NeedsDataFrame: a worker has to read it, whether to accept it or to explain a fault.
    """
    found = None
    if isinstance(value, msgspec.Raw):
        if form == "dataframe_split" and signature.is_columns:
            found = _many_doubles(value, signature)
        elif form in ("inputs", "instances") and (large := _large(value, signature)) is not None:
            found = [large]
    if found is None:
        raise NeedsDataFrame
    return found


def split_form(value: Any) -> tuple[list[str], list[list[Any]]]:
    """Column names and rows of a `dataframe_split`; the names default to 0, 1, ...

    Raises:
        InvalidInput: the value is not an object with `data` and optional `columns` and `index`,
            or a row does not have one value per column.
    """
    if not isinstance(value, dict):
        raise MalformedBody("dataframe_split must be an object with 'data' and 'columns'")
    unknown = sorted(set(value) - set(_SPLIT_KEYS))
    if unknown or "data" not in value:
        problem = f"unknown {listing(unknown)}" if unknown else "'data' is missing"
        raise MalformedBody(
            f"dataframe_split must have 'data' and may have 'columns' and 'index': {problem}"
        )
    rows, names, index = value["data"], value.get("columns"), value.get("index")
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise MalformedBody("dataframe_split: 'data' must be a list of rows, each a list")
    if names is None:
        names = list(range(len(rows[0]))) if rows else []
    if not isinstance(names, list) or not all(type(name) in (str, int) for name in names):
        raise MalformedBody("dataframe_split: 'columns' must be a list of names")
    if index is not None and (not isinstance(index, list) or len(index) != len(rows)):
        raise MalformedBody(f"dataframe_split: 'index' must be a list of {len(rows)} labels")
    _check_width(rows, len(names))
    return [str(name) for name in names], rows


def _is_default(index: list[Any] | None, rows: int) -> bool:
    """Whether the labels of rows are the numbers that a DataFrame has anyway."""
    return index is None or index == list(range(rows))


def _check_width(rows: list[list[Any]], width: int) -> None:
    for number, row in enumerate(rows):
        if len(row) != width:
            raise MalformedBody(
                f"dataframe_split: row {number} has {len(row)} values for {width} columns"
            )


def _doubles(raw: msgspec.Raw, signature: Signature) -> list[Tensor] | None:
    """The columns of a `dataframe_split` of doubles, or None to take the general path."""
    if not signature.is_double:
        return None
    try:
        split = _SPLIT.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    rows, names = split.data, split.columns
    width = len(names)
    if not rows or not _is_default(split.index, len(rows)):
        return None
    _check_width(rows, width)
    if names == signature.names:
        order = list(zip(names, range(width), strict=True))
    else:
        order = [(spec.name, index) for spec, index in signature.order(names)]
    if len(rows) == 1:
        row = [_NAN if cell is None else cell for cell in rows[0]]
        block = struct.pack(f"<{width}d", *row)
        return [
            Tensor(name, "FP64", [1], block[index * 8 : index * 8 + 8]) for name, index in order
        ]
    columns = np.array(rows, "<f8").T
    return [Tensor(name, "FP64", [len(rows)], columns[index].tobytes()) for name, index in order]


def _many_doubles(raw: msgspec.Raw, signature: Signature) -> list[Tensor] | None:
    """As `_doubles`, without an object per number; None as well if something is wrong."""
    if not signature.is_double:
        return None
    try:
        split = _LARGE_SPLIT.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    text, width = bytes(split.data), len(split.columns)
    count = text.count(b",") + 1
    if (
        split.index is not None
        or not width
        or count % width
        or sorted(split.columns) != sorted(signature.names)
    ):
        return None
    shape = [count // width, width]
    try:
        data = pack_json(text, DATATYPES["FP64"], shape, count, "dataframe_split")
    except InvalidInput:
        return None
    columns = np.frombuffer(data, "<f8").reshape(shape).T
    places = [split.columns.index(name) for name in signature.names]
    return [
        Tensor(name, "FP64", [shape[0]], columns[place].tobytes())
        for name, place in zip(signature.names, places, strict=True)
    ]


def _large(raw: msgspec.Raw, signature: Signature) -> Tensor | None:
    """The only input from one large nested list of numbers, without an object per number.

    None where the general path has to decide, whether to accept the value or to explain a fault.
    """
    spec = signature.inputs[0]
    kind = DATATYPES[spec.datatype]
    if len(signature.inputs) > 1 or not spec.is_tensor or not (kind.is_integer or kind.is_float):
        return None
    text = bytes(raw)
    depth = text.count(b"[", 0, text.find(b",")) - text.count(b"]", 0, text.find(b","))
    width = math.prod(spec.shape[1:])
    count = text.count(b",") + 1
    if depth != len(spec.shape) or width <= 0 or count % width:
        return None
    shape = [count // width, *spec.shape[1:]]
    try:
        check_shape(shape, spec)
        return Tensor(spec.name, kind.name, shape, pack_json(text, kind, shape, count, spec.name))
    except InvalidInput:
        return None


def _table(names: list[str], rows: list[list[Any]], signature: Signature) -> list[Tensor]:
    """The inputs from the rows of a table, each as long as `names`."""
    if signature.is_tensors and not signature.is_named:
        spec = _only(signature, "a table")
        if all(len(row) == 1 and (len(spec.shape) == 1 or type(row[0]) is list) for row in rows):
            rows = [row[0] for row in rows]
        return [packing.tensor(rows, spec, pad=True)]
    order = signature.order(names)
    if signature.is_tensors:
        return [
            packing.tensor([row[index] for row in rows], spec, pad=True) for spec, index in order
        ]
    return [packing.column([row[index] for row in rows], spec) for spec, index in order]


def _records(records: Any, signature: Signature, form: str) -> list[Tensor]:
    """The inputs from a list of rows, each an object of column to cell."""
    if not isinstance(records, list) or not all(isinstance(row, dict) for row in records):
        raise MalformedBody(f"{form} must be a list of records, each an object")
    if not records:
        raise MalformedBody(f"{form} has no records")
    names = names_of(records)
    if all(len(row) == len(names) for row in records):
        return _table(names, [[row[name] for name in names] for row in records], signature)
    # A key that is absent is null, where the column can hold that.
    needed = [spec.name for spec in signature.inputs if not _holds_null(spec)]
    for number, row in enumerate(records):
        absent = [name for name in needed if name in names and name not in row]
        if absent:
            raise InvalidInput(f"{form}: record {number} has no {listing(absent)}")
    if signature.is_named:
        # Before the table is made: each row may have surplus keys of its own.
        names = [names[index] for _, index in signature.order(names)]
    check_size(records, names, form)
    if absent_cells(records, names) > _MANY:
        raise NeedsDataFrame
    return _table(names, [[row.get(name) for name in names] for row in records], signature)


def _holds_null(spec: Spec) -> bool:
    """Whether a cell of this input may be missing from a row."""
    if not spec.required:
        return True
    return not spec.is_tensor and (spec.datatype == "BYTES" or DATATYPES[spec.datatype].is_float)


def _spread(columns: list[Any]) -> list[Any]:
    """The columns, with a single value repeated in every row, as pandas does."""
    rows = max((len(column) for column in columns if type(column) is list), default=1)
    return [column if type(column) is list else [column] * rows for column in columns]


def _by_name(values: dict[str, Any], signature: Signature, form: str) -> list[Tensor]:
    """The inputs from an object of name to column, tensor or single value."""
    if not signature.is_named:
        raise InvalidInput(
            f"'{form}' must be a list or a single value, because the signature's inputs have "
            "no names; got an object"
        )
    build = packing.tensor if signature.is_tensors else packing.column
    given = list(values.values())
    if signature.is_columns and signature.pass_over is not None:
        given = _spread(given)
    inputs = [build(given[index], spec) for spec, index in signature.order(list(values))]
    if signature.is_columns:
        check_rows(inputs)
    return inputs


def _unnamed(value: Any, signature: Signature, form: str) -> list[Tensor]:
    """The inputs from a plain list or a single value."""
    if signature.is_tensors:
        return [packing.tensor(value, _only(signature, f"'{form}'"))]
    specs = signature.inputs
    if len(specs) == 1:
        return [packing.column(value, specs[0])]
    is_rows = isinstance(value, list) and all(isinstance(row, list) for row in value)
    if not is_rows or not signature.takes_matrix():
        raise InvalidInput(
            f"'{form}' must be an object of columns or a list of records; "
            f"the model takes {listing(signature.names)}"
        )
    for number, row in enumerate(value):
        if len(row) != len(specs):
            raise InvalidInput(
                f"'{form}': row {number} has {len(row)} values for {len(specs)} columns"
            )
    return _table(signature.names, value, signature)


def _only(signature: Signature, what: str) -> Any:
    """The only input, which a value without names must be for."""
    if len(signature.inputs) != 1:
        raise InvalidInput(
            f"{what} without names can only be a single input, but the model takes "
            f"{listing(signature.names)}"
        )
    return signature.inputs[0]
