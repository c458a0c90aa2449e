"""A tensor in transit: name, datatype, shape and the raw little-endian bytes.

The bytes are those of the binary tensor data extension: row-major, BOOL one byte each,
BYTES as a 32-bit little-endian length before each element. Every protocol decodes to this
form and every executor carries it unchanged, so a tensor is encoded at most once.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, Union

from headrace.errors import InvalidInput
from headrace.protocol.datatypes import datatype, element_count

Buffer = Union[bytes, bytearray, memoryview]
Parameters = dict[str, Any]

LENGTH = struct.Struct("<I")


class Tensor:
    """A named tensor of a request or an answer.

    `data` holds exactly the bytes that `shape` and `datatype` call for; code that builds a
    tensor from bytes of a client must run `check_size` on it.
    """

    __slots__ = ("data", "datatype", "name", "parameters", "shape")

    def __init__(
        self,
        name: str,
        datatype: str,
        shape: Sequence[int],
        data: Buffer,
        parameters: Parameters | None = None,
    ) -> None:
        self.name = name
        self.datatype = datatype
        self.shape = shape
        self.data = data
        self.parameters = parameters

    @property
    def nbytes(self) -> int:
        return len(self.data)

    @property
    def content_type(self) -> str | None:
        return self.parameters.get("content_type") if self.parameters else None

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {self.datatype}, {list(self.shape)}, {self.nbytes} bytes)"


def as_column(shape: Sequence[int]) -> list[int]:
    """The shape of a vector as that of a column, of a single value as [1]; others as they are."""
    if not shape:
        return [1]
    return [*shape, 1] if len(shape) == 1 else list(shape)


def check_size(tensor: Tensor, where: str) -> None:
    """Check that the bytes are exactly what shape and datatype call for.

    Raises:
        InvalidInput: the byte count differs, or a BYTES length prefix is wrong.
    """
    kind = datatype(tensor.datatype, where)
    count = element_count(tensor.shape, where)
    if kind.itemsize:
        expected = count * kind.itemsize
        if tensor.nbytes != expected:
            raise InvalidInput(
                f"{where}: byte size mismatch, shape {list(tensor.shape)} of {kind.name} "
                f"needs {expected} bytes, got {tensor.nbytes}"
            )
        return
    for _ in _ends(tensor.data, count, where):
        pass


def offsets(data: Buffer, count: int, where: str) -> array[int]:
    """Start of each BYTES element in `data`, and the end of the last.

    Raises:
        InvalidInput: the data is cut short, or holds more than `count` elements.
    """
    # A list would take five times the memory.
    starts = array("q", [0])
    starts.extend(_ends(data, count, where))
    return starts


def _ends(data: Buffer, count: int, where: str) -> Iterator[int]:
    # Each element has a prefix of four bytes: refuse a wrong count before reading that many.
    size = len(data)
    if count * 4 > size:
        raise InvalidInput(
            f"{where}: {count} BYTES elements need at least {count * 4} bytes, got {size}"
        )
    position = 0
    for index in range(count):
        if position + 4 > size:
            raise InvalidInput(f"{where}: BYTES data ends before element {index} of {count}")
        position += 4 + LENGTH.unpack_from(data, position)[0]
        if position > size:
            raise InvalidInput(
                f"{where}: the length of BYTES element {index} reaches past the end of the data"
            )
        yield position
    if position != size:
        raise InvalidInput(
            f"{where}: {size - position} bytes follow the last of {count} BYTES elements"
        )


def pack_bytes(elements: Sequence[bytes]) -> bytes:
    """Join elements into the raw form of a BYTES tensor."""
    pack = LENGTH.pack
    return b"".join([part for element in elements for part in (pack(len(element)), element)])


def unpack_bytes(data: Buffer, count: int, where: str = "BYTES tensor") -> list[bytes]:
    """The elements of a BYTES tensor in raw form."""
    starts = offsets(data, count, where)
    view = memoryview(data)
    return [bytes(view[start + 4 : end]) for start, end in zip(starts, starts[1:])]


def split_rows(tensor: Tensor, rows: Sequence[int]) -> list[Tensor]:
    """Cut a tensor along its first dimension into pieces of `rows` rows, without copying.

    The caller must ensure that `rows` adds up to the first dimension.
    """
    view = memoryview(tensor.data)
    trailing = list(tensor.shape[1:])
    width = element_count(trailing, tensor.name)
    itemsize = datatype(tensor.datatype, tensor.name).itemsize
    starts = None if itemsize else offsets(view, tensor.shape[0] * width, tensor.name)
    pieces = []
    row = 0
    for count in rows:
        first, last = row * width, (row + count) * width
        if starts is None:
            piece = view[first * itemsize : last * itemsize]
        else:
            piece = view[starts[first] : starts[last]]
        pieces.append(
            Tensor(tensor.name, tensor.datatype, [count, *trailing], piece, tensor.parameters)
        )
        row += count
    return pieces
