"""What a value is in the words of JSON, for refusals, which must not repeat it."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from headrace.errors import shorten

_WORDS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((str, bytes), "text"),
    # Before the numbers: Python counts it among them.
    ((bool,), "true or false"),
    ((int, float, complex), "a number"),
    ((list, tuple), "a list"),
    ((dict,), "an object"),
    ((type(None),), "null"),
)
_OTHER = "another type"
_NUMBERS = ("integer", "long", "float", "double")


def word_of(kind: type) -> str:
    """What the values of one of Python's types are."""
    return next((word for kinds, word in _WORDS if issubclass(kind, kinds)), _OTHER)


def wanted(kind: type) -> str:
    """What a caller has to send for one of Python's types, such as that of a type hint."""
    if issubclass(kind, int) and not issubclass(kind, bool):
        return "a whole number"
    if issubclass(kind, bytes):
        return "base64"
    if issubclass(kind, date):
        return "a time in ISO 8601"
    word = word_of(kind)
    return shorten(kind.__name__) if word == _OTHER else word


def misfit(value: Any, kind: str) -> str:
    """What a value is that does not convert to one of MLflow's simple types."""
    if kind not in _NUMBERS or isinstance(value, bool) or not isinstance(value, (int, float)):
        return word_of(type(value))
    if value - value != 0:
        return "a number that is not finite"
    return "a number that does not convert without loss"


def written(value: Any, limit: int = 24) -> str:
    """A parameter as JSON writes it, shortened; of lists, objects and others, what they are."""
    if isinstance(value, str):
        return shorten(json.dumps(value[:limit], ensure_ascii=False), limit)
    if value is None or isinstance(value, (bool, int, float)):
        return shorten(json.dumps(value), limit)
    return word_of(type(value))
