"""The one typing rule: a tensor is converted to another datatype without loss, or refused.

Integers move between widths if they are in range, and become floats if they are exactly
representable; floats become integers if all are whole; floats are rounded to a narrower
float, which choosing that type implies, but never to infinity. Booleans and text never
become numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.errors import InvalidInput
from headrace.protocol import nullable
from headrace.protocol.bfloat16 import from_bfloat16
from headrace.protocol.datatypes import DATATYPES, Datatype
from headrace.protocol.tensor import Buffer, Tensor

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
            message gives the position of the first offending element.
    """
    if tensor.datatype == target or not tensor.nbytes:
        return tensor.data
    kind = DATATYPES[target]
    if target == "BYTES":
        raise InvalidInput(f"{where}: expected text (datatype BYTES), got {tensor.datatype}")
    if tensor.datatype == "BYTES":
        if nullable.datatype_of(tensor) is not None:
            return _cast_nullable(tensor, kind, where)
        if tensor.content_type == "pd_json":
            raise InvalidInput(f"{where}: expected {target}, got missing or mixed values")
        raise InvalidInput(f"{where}: expected {target}, got text (datatype BYTES)")
    if tensor.datatype == "BOOL":
        raise InvalidInput(f"{where}: expected {target}, got BOOL, which is never a number")
    return bytes(cast_array(to_array(tensor), kind, where).tobytes())


def _cast_nullable(tensor: Tensor, kind: Datatype, where: str) -> Buffer:
    values = nullable.values_of(tensor)
    if None in values and not kind.is_float:
        raise InvalidInput(
            f"{where}: null among {kind.name} values; only floating-point types can hold null"
        )
    missing = np.array([value is None for value in values])
    filled = np.array([0 if value is None else value for value in values])
    if filled.dtype.kind == "b" and kind.name != "BOOL":
        raise InvalidInput(f"{where}: expected {kind.name}, got BOOL, which is never a number")
    numbers = cast_array(filled, kind, where)
    if missing.any():
        numbers[missing] = np.nan
    return bytes(numbers.tobytes())


def cast_array(array: Any, kind: Datatype, where: str) -> Any:
    """A flat numeric array as datatype `kind`, by the rule of this module.

    Raises:
        InvalidInput: an element cannot be converted without loss.
    """
    if kind.name == "BOOL":
        return _to_bool(array, where)
    if kind.is_float:
        return _to_float(array, kind, where)
    if array.dtype.kind == "f":
        return _float_to_integer(array, kind, where)
    return _to_integer(array, kind, where)


def _refuse(where: str, ok: Any, needs: str) -> None:
    """Raise for the first element that is not ok."""
    if not ok.all():
        raise InvalidInput(f"{where}: element {int(np.argmin(ok))} {needs}")


def _to_bool(array: Any, where: str) -> Any:
    if array.dtype.kind == "f":
        raise InvalidInput(f"{where}: expected BOOL, got floating-point numbers")
    _refuse(where, (array == 0) | (array == 1), "is neither 0 nor 1, expected BOOL")
    return array.astype("|b1")


def _to_integer(array: Any, kind: Datatype, where: str) -> Any:
    assert kind.low is not None
    assert kind.high is not None
    if array.size and not (int(array.min()) >= kind.low and int(array.max()) <= kind.high):
        # No element can exceed a bound that the source type cannot hold.
        have = np.iinfo(array.dtype)
        ok = (array >= max(kind.low, have.min)) & (array <= min(kind.high, have.max))
        _refuse(where, ok, f"is out of range for {kind.name}, {kind.low} to {kind.high}")
    return array.astype(kind.numpy)


def _float_to_integer(array: Any, kind: Datatype, where: str) -> Any:
    assert kind.low is not None
    assert kind.high is not None
    wide = array.astype("<f8")
    _refuse(where, np.isfinite(wide), f"is NaN or infinite, expected {kind.name}")
    _refuse(where, np.floor(wide) == wide, f"is not a whole number, expected {kind.name}")
    # high + 1 is a power of two, exact as a float where `high` itself may not be.
    ok = (wide >= float(kind.low)) & (wide < float(kind.high + 1))
    _refuse(where, ok, f"is out of range for {kind.name}, {kind.low} to {kind.high}")
    return wide.astype(kind.numpy)


def _to_float(array: Any, kind: Datatype, where: str) -> Any:
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            narrow = array.astype(kind.numpy)
        if narrow.dtype.itemsize < array.dtype.itemsize:
            ok = np.isfinite(narrow) | ~np.isfinite(array)
            _refuse(where, ok, f"is too large for {kind.name}")
        return narrow
    limit = 2 ** _EXACT_BITS[kind.name]
    with np.errstate(over="ignore"):
        floats = array.astype(kind.numpy)
    if array.size and (int(array.max()) > limit or int(array.min()) < -limit):
        pairs = zip(floats.tolist(), array.tolist())
        exact = np.array([np.isfinite(number) and int(number) == whole for number, whole in pairs])
        _refuse(where, exact, f"has more digits than {kind.name} holds exactly")
    return floats
