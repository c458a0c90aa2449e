"""How the elements of arrays and columns are converted to the dtype that a descriptor names."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np

from headrace.errors import InvalidInput
from headrace.protocol.casting import cast_array
from headrace.protocol.datatypes import DATATYPES, EXACT_IN_FLOAT
from headrace.protocol.json_words import word_of
from headrace.protocol.place import place, refusal

_ROWS = {
    np.dtype(row.numpy): row for row in DATATYPES.values() if row.name not in ("BF16", "BYTES")
}
_LOWEST, _HIGHEST = -(2**63), 2**64 - 1


def converted(array: Any, dtype: Any) -> Any:
    """An array with elements of `dtype`; a cast of the same kind, or any that changes no value.

    Numbers from JSON have no width of their own: `[1, 2]` becomes uint8 too, and `[1.0]` int64.

    Raises:
        InvalidInput: an element would change; the message says which, and how.
    """
    if array.dtype == dtype:
        return array
    if not array.size:
        return array.astype(dtype)
    if array.dtype.kind not in "biuf" or dtype not in _ROWS:
        if array.dtype.kind in "OUS" and dtype.kind not in "OUS":
            raise InvalidInput(f"text is not {dtype}")
        if np.can_cast(array.dtype, dtype, casting="same_kind"):
            return array.astype(dtype)
        raise InvalidInput(f"{array.dtype} cannot be converted without loss")
    if dtype.kind == "f" and array.dtype.kind != "f":
        with np.errstate(over="ignore"):
            result = array.astype(dtype)
        if not np.isfinite(result).all():
            raise InvalidInput(f"a number is too large for {dtype}")
        return result
    flat = np.ascontiguousarray(array).reshape(-1)
    return cast_array(flat, _ROWS[dtype], "", array.shape).reshape(array.shape)


def reason(error: InvalidInput) -> str:
    """The message of `converted` without the place that it leaves empty."""
    return error.message[2:] if error.message.startswith(": ") else error.message


def array_of_json(value: Any, dtype: Any, where: str) -> Any:
    """An array of what JSON held; nulls among numbers are NaN, `dtype` may be None.

    Raises:
        InvalidInput: it is no number, text or list, lists differ in length, or an integer needs
            more than 64 bits.
    """
    if value is None or isinstance(value, dict):
        kind = "null" if value is None else "object"
        raise InvalidInput(f"{where}: expected an array, got {kind}")
    try:
        if dtype is not None and dtype.kind in "MmSUO":
            return np.array(value, dtype)
        array = np.array(value)
    except (ValueError, TypeError, OverflowError):
        raise InvalidInput(f"{where}: {_unlike(value) or f'not an array of {dtype}'}") from None
    if array.dtype.kind == "O":
        _check_numbers(array, value, dtype, where)
    elements = _flat(value, array.ndim)
    _check_one_kind(elements, array.shape, where)
    if array.dtype.kind == "O":
        array = _of_numbers(array, where)
    if array.dtype.kind == "f" and (dtype is None or dtype.kind != "f"):
        at = first_inexact(array.reshape(-1), elements)
        if at is not None:
            raise InvalidInput(
                f"{place(where, at, array.shape)}: {INEXACT}; send no fractions, negative numbers "
                "or nulls beside it, or give the descriptor a dtype of floats"
            )
    return array


INEXACT = "an integer that a float does not hold exactly"


def first_inexact(floats: Any, elements: Iterable[Any]) -> int | None:
    """Where an integer became a float of another value; None if none did.

    `floats` is a flat array, and `elements` what it was made of.
    """
    with np.errstate(invalid="ignore"):
        large = np.abs(floats) >= EXACT_IN_FLOAT
    if not large.any():
        return None
    pairs = enumerate(zip(floats.tolist(), elements))
    return next((at for at, (got, was) in pairs if type(was) is int and got != was), None)


def _flat(value: Any, depth: int) -> list[Any]:
    """The elements of lists that are nested so deeply."""
    flat = [value]
    for _ in range(depth):
        flat = list(chain.from_iterable(flat))
    return flat


def _check_one_kind(elements: list[Any], shape: tuple[int, ...], where: str) -> None:
    """Refuse what numpy would change: numbers beside text, and booleans beside numbers.

    Raises:
        InvalidInput: the message has the place of the first element of another kind.
    """
    kinds = set(map(type, elements)) - {type(None)}
    if len(kinds) < 2 or kinds == {int, float}:
        return
    word = {int: "number", float: "number", bool: "boolean", str: "string"}
    wanted = None
    for at, element in enumerate(elements):
        kind = word.get(type(element))
        wanted = wanted or kind
        if kind != wanted and element is not None:
            expected = f"a {wanted}, as the first element is one"
            raise refusal(where, at, shape, expected, f"a {kind}")


def _check_numbers(array: Any, value: Any, dtype: Any, where: str) -> None:
    """Check what numpy keeps as Python objects: numbers among nulls, integers of many digits."""
    keeps_integers = dtype is None or dtype.kind != "f"
    for index, element in enumerate(array.reshape(-1)):
        is_other = not isinstance(element, (int, float, type(None)))
        if is_other and (detail := _unlike(value)):
            raise InvalidInput(f"{where}: {detail}")
        if is_other or isinstance(element, bool):
            beside = " beside null" if None in array.reshape(-1).tolist() else ""
            got = word_of(type(element))
            raise refusal(where, index, array.shape, f"a number{beside}", got)
        if keeps_integers and isinstance(element, int) and not _LOWEST <= element <= _HIGHEST:
            expected, got = "an integer of 64 bits", "a number out of range"
            raise refusal(where, index, array.shape, expected, got)


def _of_numbers(array: Any, where: str) -> Any:
    try:
        return array.astype(np.float64)
    except OverflowError:
        raise InvalidInput(f"{where}: a number is out of range of float64") from None


def _unlike(value: Any) -> str:
    """The first place where nested lists differ in length or depth; empty if they do not."""
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    return _unlike_shape(value, shape, "") if shape else ""


def _unlike_shape(value: Any, shape: list[int], path: str) -> str:
    if not shape:
        return f"{path} is a list, expected a single value" if isinstance(value, list) else ""
    if not isinstance(value, list):
        return f"{path} is a single value, expected a list of {shape[0]}"
    if len(value) != shape[0]:
        return f"lists differ in length: {path} has {len(value)} elements, others {shape[0]}"
    inner = (_unlike_shape(item, shape[1:], f"{path}[{at}]") for at, item in enumerate(value))
    return next((each for each in inner if each), "")
