"""Numbers that are written as text, which `mlflow models serve` accepts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.mlflow.schema import Spec
from headrace.protocol.place import refusal

_INTEGER = re.compile(r"[+-]?[0-9]+")
# Those of JSON, and what people and spreadsheets write besides: +1, 1. and .5
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NAMED = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
# Longer ones hold more digits than any number type, and int() takes quadratic time for them.
_LONGEST = 1000
# Beyond every integer type. A short text may be an integer of a billion digits.
_TOO_LARGE = 2.0**70


def number_of(text: str) -> int | float | None:
    """The number that a text is, or None; white space around it does not count."""
    text = text.strip()
    if len(text) > _LONGEST:
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NAMED.fullmatch(text):
        return float(text)
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    # Infinity is not what was written.
    return number if number - number == 0 else None


def whole_number_of(text: str) -> int | None:
    """The integer that a text is, also if it is written like `5.0` or `1e3`, exactly.

    None if it is no integer, however close to one, or far beyond every integer type.
    """
    number = number_of(text)
    if not isinstance(number, float):
        return number
    if not abs(number) < _TOO_LARGE:
        return None
    try:
        # The float is only near to it: 9007199254740993.0 is not one.
        exact = Decimal(text.strip())
    except InvalidOperation:
        return None
    return int(exact) if exact == exact.to_integral_value() else None


def numbers_in(values: Iterable[Any], spec: Spec, shape: Sequence[int]) -> list[Any]:
    """The values, of this shape and row-major, with the number in place of each text that is one.

    Raises:
        InvalidInput: a text is not a number, or not a whole one where the type holds no others;
            the message has its place.
    """
    is_whole = DATATYPES[spec.datatype].is_integer
    read = whole_number_of if is_whole else number_of
    found = []
    for index, value in enumerate(values):
        number = read(value) if type(value) is str else value
        if number is None and value is not None:
            expected = f"a {'whole ' if is_whole else ''}number ({spec.kind})"
            raise refusal(spec.where, index, shape, expected, "text that is not one")
        found.append(number)
    return found
