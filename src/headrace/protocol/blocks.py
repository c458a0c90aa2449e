"""Cuts large tensors into blocks, of which each is about a millisecond's work."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO

from headrace.errors import BadModelOutput, shorten
from headrace.protocol.datatypes import DATATYPES, element_count
from headrace.protocol.tensor import LENGTH, Buffer, Tensor

# The most bytes and the most elements of a block, unless a single row has more.
STEP = 128 * 1024
MOST = 16 * 1024
# Bytes that are copied in one go.
_COPIED = 1024 * 1024


def blocks(tensor: Tensor, most_elements: int = MOST, rows: int | None = None) -> Iterator[Tensor]:
    """A tensor of some dimension cut into blocks of rows, each within the bounds or a single row.

    If `rows` is given, each block but the last has so many.

    Raises:
        BadModelOutput: the data of a BYTES tensor is cut short, or too long.
    """
    total, *trailing = tensor.shape
    where = f"output '{shorten(tensor.name)}'"
    width = element_count(trailing, where)
    view = memoryview(tensor.data)
    itemsize = DATATYPES[tensor.datatype].itemsize
    most_rows = rows or max(1, most_elements // max(width, 1))
    if itemsize:
        size = width * itemsize
        if rows is None:
            most_rows = max(1, min(most_rows, STEP // max(size, 1)))
        for first in range(0, total, most_rows):
            count = min(most_rows, total - first)
            data = view[first * size : (first + count) * size]
            yield Tensor(tensor.name, tensor.datatype, [count, *trailing], data, tensor.parameters)
        return
    start = end = count = 0
    most_bytes = STEP if rows is None else len(view) + 1
    try:
        for row in range(total):
            for _ in range(width):
                end += 4 + LENGTH.unpack_from(view, end)[0]
            count += 1
            if count == most_rows or end - start >= most_bytes or row == total - 1:
                data = view[start:end]
                yield Tensor(
                    tensor.name, tensor.datatype, [count, *trailing], data, tensor.parameters
                )
                start, count = end, 0
    except struct.error:
        raise BadModelOutput(f"{where}: BYTES data ends before element {row} of {total}") from None
    if end != len(view):
        raise BadModelOutput(
            f"{where}: its BYTES elements need {end} bytes, and it has {len(view)}"
        )


def flat(tensor: Tensor) -> Tensor:
    """The tensor with all its elements in one dimension."""
    count = element_count(tensor.shape, f"output '{shorten(tensor.name)}'")
    return Tensor(tensor.name, tensor.datatype, [count], tensor.data, tensor.parameters)


def elements(block: Tensor) -> list[memoryview]:
    """The elements of a block of BYTES, in place."""
    view, found, start = memoryview(block.data), [], 0
    while start < len(view):
        end = start + 4 + LENGTH.unpack_from(view, start)[0]
        found.append(view[start + 4 : end])
        start = end
    return found


def whole_of(data: Buffer) -> bytes:
    """A buffer as bytes, copied in pieces if it is large: copying holds the interpreter's lock."""
    if len(data) <= _COPIED:
        return bytes(data)
    view, whole = memoryview(data), BytesIO()
    for start in range(0, len(view), _COPIED):
        whole.write(view[start : start + _COPIED])
    return whole.getvalue()
