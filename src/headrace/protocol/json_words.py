"""What a value is in the words of JSON, for refusals, which must not repeat it."""

from __future__ import annotations

_WORDS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((str, bytes), "text"),
    # Before the numbers: Python counts it among them.
    ((bool,), "true or false"),
    ((int, float, complex), "a number"),
    ((list, tuple), "a list"),
    ((dict,), "an object"),
    ((type(None),), "null"),
)


def word_of(kind: type) -> str:
    """What the values of one of Python's types are."""
    return next((word for kinds, word in _WORDS if issubclass(kind, kinds)), "another type")
