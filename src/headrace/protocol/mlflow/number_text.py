"""Numbers that are written as text, which `mlflow models serve` accepts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from headrace.errors import InvalidInput
from headrace.protocol.mlflow.schema import Spec

_INTEGER = re.compile(r"[+-]?[0-9]+")
# Those of JSON, and what people and spreadsheets write besides: +1, 1. and .5
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NAMED = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
# Longer ones hold more digits than any number type, and int() takes quadratic time for them.
_LONGEST = 1000


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


def numbers_in(values: Iterable[Any], spec: Spec) -> list[Any]:
    """The values, with the number in place of each text that is one.

    Raises:
        InvalidInput: a text is not a number; the message has its position.
    """
    found = []
    for index, value in enumerate(values):
        number = number_of(value) if type(value) is str else value
        if number is None and value is not None:
            place = "element" if spec.is_tensor else "row"
            kind = spec.datatype if spec.is_tensor else spec.type
            raise InvalidInput(
                f"{spec.where}, {place} {index:,}: expected a number ({kind}), "
                "got text that is not one"
            )
        found.append(number)
    return found
