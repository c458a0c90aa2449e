"""Puts large answers together in pieces, between which other threads get the interpreter's lock.

An encoder holds that lock as long as it runs, so it gets little at a time; nor is it asked for more
memory at once than there may be.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from typing import Any

import orjson

from headrace.protocol.blocks import STEP
from headrace.protocol.tensor import Buffer

# Bytes from which on an answer is put together in pieces.
LARGE = 1024 * 1024


class Pieces:
    """Bytes that grow piece by piece, and are not copied at the end."""

    __slots__ = ("_all", "add")

    def __init__(self) -> None:
        self._all = BytesIO()
        self.add = self._all.write

    def whole(self) -> bytes:
        """All of them; nothing may be added any more."""
        return self._all.getvalue()

    def add_last(self, data: bytes) -> int:
        """Add bytes, and return how many there are up to here."""
        self.add(data)
        return self._all.tell()

    def add_buffer(self, data: Buffer) -> None:
        """Add bytes as they are."""
        view = memoryview(data)
        for start in range(0, len(view), LARGE):
            self.add(view[start : start + LARGE])

    def add_text(self, data: Buffer) -> None:
        """Add UTF-8 as a text of JSON.

        Raises:
            UnicodeDecodeError: it is not UTF-8.
        """
        view = memoryview(data)
        decode = codecs.getincrementaldecoder("utf-8")().decode
        self.add(b'"')
        for start in range(0, len(view), STEP):
            self.add(inner(orjson.dumps(decode(view[start : start + STEP]))))
        decode(b"", True)
        self.add(b'"')

    def add_value(self, value: Any, option: int) -> None:
        """Add a value of which any part may be large."""
        if isinstance(value, str) and len(value) > STEP:
            self.add_text(value.encode())
        elif isinstance(value, dict):
            self.add_members(value, lambda key: self.add_value(value[key], option))
        elif isinstance(value, (list, tuple)):
            self.add(b"[")
            self.add_inner(value, option)
            self.add(b"]")
        else:
            self.add(orjson.dumps(value, option=option))

    def add_inner(self, values: Sequence[Any], option: int) -> None:
        """Add what is within the brackets of a list of values."""
        for index, each in enumerate(values):
            if index:
                self.add(b",")
            self.add_value(each, option)

    def add_members(self, keys: Iterable[Any], add: Callable[[Any], object]) -> None:
        """Add an object of JSON; `add` adds the value of a key."""
        self.add(b"{")
        for index, key in enumerate(keys):
            # The only key of an object: what is written of it, but for the value and the brace.
            named = orjson.dumps({key: 0}, option=orjson.OPT_NON_STR_KEYS)[1:-2]
            self.add(b"," + named if index else named)
            add(key)
        self.add(b"}")


def inner(text: bytes) -> memoryview:
    """What is within the brackets, or the quotes, of a piece of JSON."""
    return memoryview(text)[1:-1]
