"""JSON values packed as tensors of a signature's types, by the rule of `casting`."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from math import isfinite, prod
from typing import Any

import numpy as np

from headrace.errors import InvalidInput
from headrace.protocol.casting import NOT_WHOLE, NULL, OUT_OF_RANGE, cast_array
from headrace.protocol.datatypes import DATATYPES, MAX_RANK
from headrace.protocol.json_words import word_of
from headrace.protocol.mlflow.number_text import numbers_in
from headrace.protocol.mlflow.schema import Spec, check_shape
from headrace.protocol.place import refusal
from headrace.protocol.tensor import Tensor, pack_bytes

_NULL = type(None)


class NeedsDataFrame(Exception):
    """What tensors cannot hold: null among text, anything among text, or labels of rows."""


def column(values: Any, spec: Spec) -> Tensor:
    """The column `spec`, shape `[N]`, from a list of N cells or from one cell.

    Raises:
        InvalidInput: a cell is not of the column's type; the message names the column.
        NeedsDataFrame: a cell of a text column is null.
    """
    if type(values) is not list and type(values) is not tuple:
        values = [values]
    elif values and type(values[0]) is list and _is_column(values, spec):
        values = [cell[0] for cell in values]
    parameters = {"content_type": spec.content_type} if spec.datatype == "BYTES" else None
    return Tensor(spec.name, spec.datatype, [len(values)], pack(values, spec), parameters)


def tensor(values: Any, spec: Spec, pad: bool = False) -> Tensor:
    """The tensor input `spec` from nested lists.

    With `pad`, a table's column of scalars may stand for a tensor whose last dimension is 1, and
    flat lists in its cells for the inner dimensions.

    Raises:
        InvalidInput: ragged lists, the wrong shape, or an element of the wrong type.
        NeedsDataFrame: an element of a tensor of Python objects is not text.
    """
    shape, flat = flatten(values, spec.where)
    if not flat and len(shape) < len(spec.shape):
        shape += [max(dim, 0) for dim in spec.shape[len(shape) :]]
    if pad and len(shape) + 1 == len(spec.shape) and spec.shape[-1] == 1:
        shape.append(1)
    inner = spec.shape[1:]
    if pad and len(shape) == 2 and len(inner) > 1 and min(inner) > 0 and shape[1] == prod(inner):
        shape[1:] = inner
    check_shape(shape, spec)
    try:
        return Tensor(spec.name, spec.datatype, shape, pack(flat, spec, shape))
    except NeedsDataFrame:
        if spec.mixed:
            raise
        raise _refuse("text", flat, {_NULL}, spec, shape) from None


def flatten(values: Any, where: str) -> tuple[list[int], Sequence[Any]]:
    """Shape and flat elements, row-major, of nested lists; a single value has shape `[]`.

    Raises:
        InvalidInput: lists at the same depth differ in length, or are nested too deeply.
    """
    if type(values) is not list:
        return [], [values]
    shape = [len(values)]
    flat = values
    while flat and type(flat[0]) is list:
        width = len(flat[0])
        if not all(type(item) is list and len(item) == width for item in flat):
            raise InvalidInput(f"{where}: the lists at depth {len(shape)} differ in length")
        if len(shape) == MAX_RANK:
            raise InvalidInput(f"{where}: lists nest deeper than {MAX_RANK} levels")
        shape.append(width)
        flat = list(chain.from_iterable(flat))
    return shape, flat


def pack(values: Sequence[Any], spec: Spec, shape: Sequence[int] | None = None) -> bytes:
    """The raw bytes of `values` as the datatype of `spec`; null is NaN in floats.

    `shape` is what the values are of, row-major; by default a column.

    Raises:
        InvalidInput: a value cannot become that type without loss; the message has its place.
        NeedsDataFrame: a value of a text column is null, or one of a mixed tensor is not text.
    """
    kinds = set(map(type, values))
    shape = [len(values)] if shape is None else shape
    if spec.datatype == "BYTES":
        return _pack_text(values, kinds, spec, shape)
    if spec.datatype == "BOOL":
        return _pack_bool(values, kinds, spec, shape)
    return _pack_numbers(values, kinds, spec, shape)


def _takes_lists(spec: Spec) -> bool:
    """Whether lists in a column of text reach the model, as MLflow's server hands them on."""
    return spec.reads_text and spec.type == "string"


def _is_column(values: Sequence[Any], spec: Spec) -> bool:
    """Whether the values are a column of shape `[N, 1]`."""
    return not _takes_lists(spec) and all(type(row) is list and len(row) == 1 for row in values)


def _refuse(
    expected: str, values: Sequence[Any], kinds: set[type], spec: Spec, shape: Sequence[int]
) -> InvalidInput:
    """The error for JSON values of which some are of the wrong `kinds`."""
    index = next(index for index, value in enumerate(values) if type(value) in kinds)
    got = word_of(type(values[index]))
    return refusal(spec.where, index, shape, f"{expected} ({spec.kind})", got)


def _pack_text(values: Sequence[Any], kinds: set[type], spec: Spec, shape: Sequence[int]) -> bytes:
    if spec.mixed and kinds - {str}:
        raise NeedsDataFrame
    if float in kinds and all(value != value for value in values if type(value) is float):
        # What pandas writes for a missing text.
        kinds = kinds - {float} | {_NULL}
    if kinds & {list, dict} and _takes_lists(spec):
        kinds = kinds - {list, dict} | {_NULL}
    if kinds - {str, _NULL}:
        raise _refuse("text", values, kinds - {str, _NULL}, spec, shape)
    if _NULL in kinds:
        raise NeedsDataFrame
    try:
        return pack_bytes([value.encode() for value in values])
    except UnicodeEncodeError:
        index = next(index for index, value in enumerate(values) if not _is_unicode(value))
        expected = f"text ({spec.kind})"
        raise refusal(spec.where, index, shape, expected, "half of a surrogate pair") from None


def _is_unicode(text: str) -> bool:
    try:
        return bool(text.encode()) or True
    except UnicodeEncodeError:
        return False


def _pack_bool(values: Sequence[Any], kinds: set[type], spec: Spec, shape: Sequence[int]) -> bytes:
    wrong = kinds - {bool, int}
    if wrong:
        raise _refuse("true or false", values, wrong, spec, shape)
    if not set(values) <= {0, 1}:
        wrong_ones = [None if value in (0, 1) else value for value in values]
        raise _refuse("true or false", wrong_ones, {int}, spec, shape)
    return bytes(values)


def _pack_numbers(
    values: Sequence[Any], kinds: set[type], spec: Spec, shape: Sequence[int]
) -> bytes:
    kind = DATATYPES[spec.datatype]
    if str in kinds and spec.reads_text:
        values = numbers_in(values, spec, shape)
        kinds = set(map(type, values))
    wrong = kinds - {int, float, _NULL}
    if wrong:
        raise _refuse("a number", values, wrong, spec, shape)
    if kinds <= ({int, float} if kind.is_float else {int}):
        try:
            return struct.pack(f"<{len(values)}{kind.code}", *values)
        except (struct.error, OverflowError):
            pass  # the code below finds out which element it was
    if kind.is_float:
        source = "<f8"
    elif _NULL in kinds:
        raise refusal(spec.where, list(values).index(None), shape, spec.kind, NULL)
    else:
        source = "<u8" if kind.low == 0 else "<i8"
        values = _whole(values, spec, shape) if float in kinds else values
    try:
        array = np.array(values, source)
    except OverflowError:
        index = next(index for index, value in enumerate(values) if not _fits(value, source))
        raise refusal(spec.where, index, shape, spec.kind, OUT_OF_RANGE) from None
    packed: bytes = cast_array(array, kind, spec.where, shape).tobytes()
    return packed


def _fits(value: Any, dtype: str) -> bool:
    try:
        np.array(value, dtype)
    except OverflowError:
        return False
    return True


def _whole(values: Sequence[Any], spec: Spec, shape: Sequence[int]) -> list[int]:
    """The values as integers, some of which are written as floats."""
    for index, value in enumerate(values):
        if type(value) is float and not value.is_integer():
            got = NOT_WHOLE if isfinite(value) else "NaN or infinity"
            raise refusal(spec.where, index, shape, spec.kind, got)
    return [int(value) for value in values]
