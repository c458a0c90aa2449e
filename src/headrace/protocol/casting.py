"""The one typing rule: a tensor is converted to another datatype without loss, or refused.

Integers move between widths if they are in range, and become floats if they are exactly
representable; floats become integers if all are whole; floats are rounded to a narrower
float, which choosing that type implies, but never to infinity. Booleans and text never
become numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.protocol import nullable
from headrace.protocol.bfloat16 import from_bfloat16
from headrace.protocol.datatypes import DATATYPES, Datatype, element_count
from headrace.protocol.place import refusal
from headrace.protocol.tensor import Buffer, Tensor, unpack_bytes

# What was sent in place of a value of the right type.
NULL = "null, which only text and floating-point types can hold"
NOT_WHOLE = "a number that is not whole"
OUT_OF_RANGE = "a number out of range"
_BOOL = "BOOL, which is never a number"

_EXACT_BITS = {"FP64": 53, "FP32": 24, "FP16": 11, "BF16": 8}


def to_array(tensor: Tensor) -> Any:
    """The elements of a numeric or BOOL tensor as a flat array; BF16 widens to float32."""
    array = np.frombuffer(tensor.data, DATATYPES[tensor.datatype].numpy)
    if tensor.datatype == "BF16":
        return from_bfloat16(array)
    return array


def cast(tensor: Tensor, target: str, where: str) -> Buffer:
    """The tensor's data as raw bytes of datatype `target`.

    Raises:
        InvalidInput: the conversion would lose something; `where` names the input, and the
            message has the row, and the column, of the first element at fault.
    """
    if tensor.datatype == target or not tensor.nbytes:
        return tensor.data
    kind = DATATYPES[target]
    if target == "BYTES":
        array = to_array(tensor)
        # Numbers that are missing are no text, and may be in a column of it.
        index = int(np.argmax(array == array))
        raise refusal(where, index, tensor.shape, "text (datatype BYTES)", tensor.datatype)
    if tensor.datatype == "BYTES":
        if nullable.datatype_of(tensor) is not None:
            return _cast_nullable(tensor, kind, where)
        if tensor.content_type == "pd_json":
            raise refusal(where, 0, tensor.shape, target, "a value in JSON (pd_json)")
        index = _first_text(tensor, where)
        raise refusal(where, index, tensor.shape, target, "text (datatype BYTES)")
    if tensor.datatype == "BOOL":
        raise refusal(where, 0, tensor.shape, target, _BOOL)
    return bytes(cast_array(to_array(tensor), kind, where, tensor.shape).tobytes())


def _first_text(tensor: Tensor, where: str) -> int:
    """The first element that does not even read as a number, or else the first."""
    elements = unpack_bytes(tensor.data, element_count(tensor.shape, where), where)
    return next((at for at, each in enumerate(elements) if not _reads_as_number(each)), 0)


def _reads_as_number(element: bytes) -> bool:
    try:
        float(element)
    except ValueError:
        return False
    return True


def _cast_nullable(tensor: Tensor, kind: Datatype, where: str) -> Buffer:
    values = nullable.values_of(tensor)
    if None in values and not kind.is_float:
        raise refusal(where, values.index(None), tensor.shape, kind.name, NULL)
    missing = np.array([value is None for value in values])
    filled = np.array([0 if value is None else value for value in values])
    if filled.dtype.kind == "b" and kind.name != "BOOL":
        raise refusal(where, int(np.argmin(missing)), tensor.shape, kind.name, _BOOL)
    numbers = cast_array(filled, kind, where, tensor.shape)
    if missing.any():
        numbers[missing] = np.nan
    return bytes(numbers.tobytes())


def cast_array(array: Any, kind: Datatype, where: str, shape: Sequence[int] | None = None) -> Any:
    """A flat numeric array as datatype `kind`, by the rule of this module.

    `shape` is what the array is of, row-major; by default a column.

    Raises:
        InvalidInput: an element cannot be converted without loss; the message begins with `where`
            and has the element's row, and its column.
    """
    fits = _Fits(where, array.shape if shape is None else shape)
    if kind.name == "BOOL":
        return _to_bool(array, fits)
    if kind.is_float:
        return _to_float(array, kind, fits)
    if array.dtype.kind == "f":
        return _float_to_integer(array, kind, fits)
    return _to_integer(array, kind, fits)


class _Fits:
    """Checks elements of one input, and raises for the first that is not ok."""

    def __init__(self, where: str, shape: Sequence[int]) -> None:
        self.where = where
        self.shape = shape

    def __call__(self, ok: Any, expected: str, got: str) -> None:
        if not ok.all():
            raise refusal(self.where, int(np.argmin(ok)), self.shape, expected, got)


def _to_bool(array: Any, fits: _Fits) -> Any:
    if array.dtype.kind == "f":
        fits(np.zeros(array.shape, bool), "BOOL", "a floating-point number")
    fits((array == 0) | (array == 1), "BOOL", "a number other than 0 and 1")
    return array.astype("|b1")


def _to_integer(array: Any, kind: Datatype, fits: _Fits) -> Any:
    assert kind.low is not None
    assert kind.high is not None
    if array.size and not (int(array.min()) >= kind.low and int(array.max()) <= kind.high):
        # No element can exceed a bound that the source type cannot hold.
        have = np.iinfo(array.dtype)
        ok = (array >= max(kind.low, have.min)) & (array <= min(kind.high, have.max))
        fits(ok, _range(kind), OUT_OF_RANGE)
    return array.astype(kind.numpy)


def _float_to_integer(array: Any, kind: Datatype, fits: _Fits) -> Any:
    assert kind.low is not None
    assert kind.high is not None
    wide = array.astype("<f8")
    fits(np.isfinite(wide), kind.name, "NaN or infinity")
    fits(np.floor(wide) == wide, kind.name, NOT_WHOLE)
    # high + 1 is a power of two, exact as a float where `high` itself may not be.
    ok = (wide >= float(kind.low)) & (wide < float(kind.high + 1))
    fits(ok, _range(kind), OUT_OF_RANGE)
    return wide.astype(kind.numpy)


def _to_float(array: Any, kind: Datatype, fits: _Fits) -> Any:
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            narrow = array.astype(kind.numpy)
        if narrow.dtype.itemsize < array.dtype.itemsize:
            fits(np.isfinite(narrow) | ~np.isfinite(array), kind.name, "a number too large for it")
        return narrow
    limit = 2 ** _EXACT_BITS[kind.name]
    with np.errstate(over="ignore"):
        floats = array.astype(kind.numpy)
    if array.size and (int(array.max()) > limit or int(array.min()) < -limit):
        pairs = zip(floats.tolist(), array.tolist())
        exact = np.array([np.isfinite(number) and int(number) == whole for number, whole in pairs])
        fits(exact, kind.name, "a whole number of more digits than it holds exactly")
    return floats


def _range(kind: Datatype) -> str:
    return f"{kind.name}, {kind.low} to {kind.high}"
