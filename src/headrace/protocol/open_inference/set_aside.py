"""Sets the large arrays of numbers in a body aside, so that only what is around them is read first.

A decoder that skips an array to find its end reads all of it, and holds the interpreter's lock
meanwhile. Whether an array is well formed is seen when its numbers are read.
"""

from __future__ import annotations

import re
import secrets
from typing import NamedTuple

import msgspec

# Bodies and arrays of fewer characters are left as they are.
SMALLEST = 16 * 1024
# A body with more texts that read `data` is left as it is.
MOST = 1000

_KEY = b'"data"'
_BACKSLASH = ord("\\")
# With more space than anybody writes, the array is left to the decoder, which is faster there.
_VALUE = re.compile(rb"[ \t\r\n]{0,256}:[ \t\r\n]{0,256}(?=\[)")
# The brackets between the last element of an array and what follows the array.
_CLOSING = re.compile(rb"[ \t\r\n]*\](?:[ \t\r\n]*\])*(?=[ \t\r\n]*[,}])")
_NOT_ELEMENTS = b"[]{}, \t\r\n"
_LONGEST_CLOSING = 1024
# Stands for an array. It cannot be in a body that is sent, because nobody else knows it.
_MARK = secrets.token_hex(16)


_PREFIX = b'"%b:' % _MARK.encode()
_LONGEST_MARK = len(_PREFIX) + len(str(MOST)) + 1


class Aside(NamedTuple):
    """A body whose arrays `text[start:end]` in `arrays` are replaced by marks in `rest`."""

    text: bytes
    rest: bytes
    arrays: list[tuple[int, int]]

    def place(self, value: msgspec.Raw) -> tuple[int, int] | None:
        """Where the array is that a value in `rest` stands for, if it does."""
        view = memoryview(value)
        if len(view) > _LONGEST_MARK or view[: len(_PREFIX)] != _PREFIX:
            return None
        return self.arrays[int(view[len(_PREFIX) : -1])]


def set_aside(text: bytes) -> Aside:
    """Set the arrays aside that a key `data` has for its value, at any depth.

    A text whose end reads like such a key cannot be mistaken for one: its quote is escaped. What
    is set aside may be anything without a quote.
    """
    arrays: list[tuple[int, int]] = []
    parts: list[bytes] = []
    taken = position = 0
    for _ in range(MOST):
        key = text.find(_KEY, position)
        if key < 0:
            break
        position = key + len(_KEY)
        value = _VALUE.match(text, position)
        if value is None or (key and text[key - 1] == _BACKSLASH):
            continue
        start = value.end()
        quote = text.find(b'"', start)
        if quote < 0:
            quote = len(text)
        if quote - start < SMALLEST or (end := _end(text, start, quote)) is None:
            continue
        parts += (text[taken:start], b'%b%d"' % (_PREFIX, len(arrays)))
        arrays.append((start, end))
        taken = position = end
    return Aside(text, b"".join([*parts, text[taken:]]) if arrays else text, arrays)


def _end(text: bytes, start: int, quote: int) -> int | None:
    """Where an array ends that begins at `start` and has no element at or after `quote`."""
    begin = max(start, quote - _LONGEST_CLOSING)
    elements = len(text[begin:quote].rstrip(_NOT_ELEMENTS))
    closing = _CLOSING.match(text, begin + elements, quote)
    return closing.end() if closing is not None and elements else None
