"""Large arrays of JSON numbers to raw bytes, without a Python object per number.

They are parsed in slices. A slice and all that is made of it stay in the processor's cache, the
parser stays small however large the array is, and other threads get the interpreter's lock between
slices, which take well under a millisecond.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from math import nan
from typing import Any, Literal, cast

import numpy as np
import simdjson

from headrace.errors import InvalidInput
from headrace.protocol import large_buffers
from headrace.protocol.bfloat16 import from_bfloat16, to_bfloat16
from headrace.protocol.datatypes import Datatype
from headrace.protocol.open_inference.data_faults import label, other_nesting, out_of_range
from headrace.protocol.tensor import Buffer

# Characters of a slice: about a quarter of a millisecond's worth.
SLICE = 128 * 1024
# Rows of so many characters on average are measured by the parser, which costs less than finding
# each of their commas.
_WIDE = 512
# Up to here, each double stands for exactly one whole number.
EXACT = 2**53 - 1

_Array = np.ndarray[Any, Any]
_Form = Literal["d", "i", "u"]
_PARSED = {"d": np.float64, "i": np.int64, "u": np.uint64}
_NESTED = re.compile(rb"[ \t\r\n]{0,256}\[")
_LONGEST_END = 1024
_COMMA = ord(",")
NOT_STRUCTURE = bytes(set(range(256)) - set(b"[],"))
_NOT_COMMA_OR_NULL = bytes(set(range(256)) - set(b",n"))


class _Parsers(threading.local):
    """A parser for each thread: one cannot be used by two at once."""

    def __init__(self) -> None:
        self.kept = simdjson.Parser()


_PARSERS = _Parsers()


def pack_numbers(
    text: bytes, start: int, end: int, kind: Datatype, shape: Sequence[int], count: int, name: str
) -> Buffer | None:
    """The raw bytes of the array `text[start:end]`, flat or nested as `shape`.

    `count` is the number of elements in `shape`, and not 0. None where the array is not one of
    numbers and nulls that fit, or where only slower ways of reading it can decide. Whatever its
    syntax, what is packed was an array of JSON.

    Raises:
        InvalidInput: the array does not fit shape or datatype; the message names the input.
    """
    # An element takes two characters at least, so a wrong shape cannot ask for more memory.
    packed = large_buffers.empty(min(count, (end - start) // 2), kind.numpy)
    view = memoryview(text)
    position, last = start + 1, end - 1
    rank = len(shape) if _NESTED.match(text, position) else 1
    # Wide rows are measured by the parser; in all others, their brackets and commas are compared.
    wide = rank == 2 and shape[0] * _WIDE <= end - start
    skeleton = _Skeleton(shape, end - start) if rank > 1 else None
    depth = 1
    found = 0
    with np.errstate(over="ignore"):
        while position <= last:
            stop = _end_of_slice(text, position, last)
            # What is between two elements opens as many brackets as it has closed.
            deeper = rank - _closed(text, position, stop)
            document = b"".join((b"[" * depth, view[position:stop], b"]" * deeper))
            # Nothing closes the array itself before its end, and a flat one has no brackets inside.
            if deeper < 1 or (rank == 1 and document.find(b"[", 1) > 0):
                return None
            values, rows = _numbers(document, kind, wide and depth == deeper == 1)
            position = stop + 1
            if values is None or not values.size:
                return None
            room = packed[found : found + values.size]
            if room.size == values.size and not _narrow(values, kind, room):
                raise out_of_range(found + _first_outside(values, kind), kind, shape, name)
            found += values.size
            if skeleton is not None:
                if rows and len(rows) == _count(document, b"[") - 1:
                    bare = b",".join([b"[%b]" % (b"," * (length - 1)) for length in rows])
                else:
                    bare = document.translate(None, NOT_STRUCTURE)[depth : -deeper or None]
                skeleton.compare(bare)
            depth = deeper
    if depth != 1:
        return None
    if found != count:
        raise wrong_count(found, shape, count, name)
    if skeleton is not None and not skeleton.is_whole:
        raise other_nesting(shape, name)
    return packed.view(np.uint8).data


class _Skeleton:
    """Compares what is left of an array without its elements, slice by slice, with a shape.

    The shape has two dimensions at least, and none is 0; `most` is how long the array is with its
    elements. If the element count is right, this proves every length at every level.
    """

    def __init__(self, shape: Sequence[int], most: int) -> None:
        # Where the next slice begins.
        self._position = 0
        # With a comma after the last row too, as after all others.
        self._length = _length(shape) - 1
        # Otherwise, the shape could ask for any memory.
        self._fits = self._length < most
        row = _nested(shape[1:]) + b"," if self._fits else b","
        self._row_length = len(row)
        # Many short rows, so that a slice takes few comparisons.
        self._rows = row * max(1, SLICE // len(row))

    def compare(self, bare: bytes) -> None:
        """Compare the next slice, which ends before a comma, or at the end."""
        rows, taken = self._rows, 0
        while self._fits and taken < len(bare):
            phase = self._position % self._row_length
            part = bare[taken : taken + len(rows) - phase]
            self._fits = rows.startswith(part, phase)
            self._position += len(part)
            taken += len(part)
        # There is a comma between two slices, and one too many after the last.
        self._fits = self._fits and rows[self._position % self._row_length] == _COMMA
        self._position += 1

    @property
    def is_whole(self) -> bool:
        """Whether the slices were all that the shape says."""
        return self._fits and self._position == self._length


def wrong_count(got: int, shape: Sequence[int], count: int, name: str) -> InvalidInput:
    """The error for data that has more or fewer elements than its shape."""
    return InvalidInput(
        f"{label(name)}: shape {list(shape)} needs {count} elements, data has {got}"
    )


def is_skeleton(bare: bytes, shape: Sequence[int]) -> bool:
    """Whether `bare`, an array stripped to brackets and commas, is nested exactly as `shape`.

    If the element count is right, this proves every length at every level.
    """
    # An empty array hides the dimensions below it.
    dims = shape[: shape.index(0) + 1] if 0 in shape else shape
    return len(bare) == _length(dims) and bare == _nested(dims)


def _length(shape: Sequence[int]) -> int:
    length = 0
    for dim in reversed(shape):
        length = 2 + dim * length + max(dim - 1, 0)
    return length


def _nested(shape: Sequence[int]) -> bytes:
    """The brackets and commas of an array that is nested as `shape`."""
    row = b""
    for dim in reversed(shape):
        # Not joined from a list, which takes a hundred bytes for each row.
        row = b"[" + (row + b",") * (dim - 1) + row + b"]" if dim else b"[]"
    return row


def narrowed(
    values: _Array, kind: Datatype, shape: Sequence[int], name: str
) -> np.ndarray[Any, Any]:
    """Doubles as the nearest floats of a datatype, which must hold them.

    Raises:
        InvalidInput: one is too large for it.
    """
    packed = np.empty(values.shape, kind.numpy)
    with np.errstate(over="ignore"):
        if not _narrow(values, kind, packed):
            raise out_of_range(_first_outside(values, kind), kind, shape, name)
    return packed


def _end_of_slice(text: bytes, position: int, last: int) -> int:
    """Where the slice that begins at `position` ends: at a comma, after a row if there is one."""
    limit = position + SLICE
    if last <= limit:
        return last
    row = text.rfind(b"]", position, limit)
    if row >= 0 and (comma := text.find(b",", row, limit)) >= 0:
        return comma
    comma = text.rfind(b",", position, limit)
    if comma < 0:
        comma = text.find(b",", limit, last)
    return comma if comma >= 0 else last


def _closed(text: bytes, position: int, stop: int) -> int:
    """How many brackets close after the last number before `stop`."""
    end = text[max(position, stop - _LONGEST_END) : stop]
    return end.count(b"]", len(end.rstrip(b"] \t\r\n")))


def _count(document: bytes, bracket: bytes) -> int:
    # Several times as fast as `bytes.count`, which looks at one byte after the other.
    return int(np.count_nonzero(np.frombuffer(document, np.uint8) == bracket[0]))


_Parsed = tuple[_Array | None, list[int]]


def _numbers(document: bytes, kind: Datatype, rows: bool) -> _Parsed:
    """All numbers of a document in order, whatever their nesting, and the lengths of its rows.

    Null is NaN in a float tensor. The lengths are empty unless they are asked for, and all elements
    are rows.
    """
    if kind.is_integer:
        parsed = _parse(document, "u" if kind.name == "UINT64" else "i", rows)
        if parsed[0] is None:
            # Whole numbers may be written as `1.0`.
            parsed = _parse(document, "d", rows)
            values = parsed[0]
            if values is None or not ((values % 1 == 0) & (np.abs(values) <= EXACT)).all():
                return None, []
        return parsed
    parsed = _parse(document, "d", rows)
    if parsed[0] is None and b"null" in document:
        parsed = _parse(document.replace(b"null", b"   0"), "d", rows)
        if parsed[0] is not None:
            # Each element but the first follows one comma, which separates elements or rows.
            marks = np.frombuffer(document.translate(None, _NOT_COMMA_OR_NULL), np.uint8)
            nulls = np.flatnonzero(marks == ord("n"))
            parsed[0][nulls - np.arange(len(nulls))] = nan
    return parsed


def _parse(document: bytes, form: _Form, rows: bool) -> _Parsed:
    try:
        array = cast(simdjson.Array, _PARSERS.kept.parse(document))
        values = np.frombuffer(array.as_buffer(of_type=form), _PARSED[form])
    except (ValueError, TypeError, RuntimeError):
        return None, []
    try:
        lengths = [len(cast(simdjson.Array, row)) for row in array] if rows else []
    except TypeError:
        # An element beside the rows.
        return values, []
    return values, lengths


def _narrow(values: _Array, kind: Datatype, packed: _Array) -> bool:
    """Write numbers as those of a datatype; False if one does not fit."""
    if kind.low is not None and kind.high is not None:
        if int(values.min()) < kind.low or int(values.max()) > kind.high:
            return False
        packed[:] = values
        return True
    if kind.name == "BF16":
        packed[:] = to_bfloat16(values)
        return not np.isinf(from_bfloat16(packed)).any()
    packed[:] = values
    return kind.itemsize == 8 or not np.isinf(packed).any()


def _first_outside(values: _Array, kind: Datatype) -> int:
    if kind.low is not None and kind.high is not None:
        return int(((values < kind.low) | (values > kind.high)).argmax())
    packed = np.empty(values.shape, kind.numpy)
    _narrow(values, kind, packed)
    return int(np.isinf(from_bfloat16(packed) if kind.name == "BF16" else packed).argmax())
