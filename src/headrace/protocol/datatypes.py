"""The tensor datatypes of the Open Inference Protocol, and how each is laid out in memory.

Source: Open Inference Protocol, "Tensor Data Types", and the binary tensor data extension.
Needs only the standard library, so that a worker on any Python can import it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from headrace.errors import InvalidInput, shorten

MAX_RANK = 32
MAX_DIM = 2**31 - 1
# Up to here, every integer has a float64 of the same value.
EXACT_IN_FLOAT = 2**53


class Datatype(NamedTuple):
    """One row of the table; `itemsize` is 0 for BYTES, whose elements vary in length."""

    name: str
    numpy: str
    itemsize: int
    code: str
    low: int | None = None
    high: int | None = None

    @property
    def is_integer(self) -> bool:
        return self.low is not None

    @property
    def is_float(self) -> bool:
        return self.name in FLOATS


FLOATS = ("FP16", "BF16", "FP32", "FP64")


def _integer(name: str, numpy: str, itemsize: int, code: str) -> Datatype:
    bits = itemsize * 8
    if name.startswith("U"):
        return Datatype(name, numpy, itemsize, code, 0, 2**bits - 1)
    return Datatype(name, numpy, itemsize, code, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


DATATYPES: dict[str, Datatype] = {
    row.name: row
    for row in (
        Datatype("BOOL", "|b1", 1, "?"),
        _integer("UINT8", "|u1", 1, "B"),
        _integer("UINT16", "<u2", 2, "H"),
        _integer("UINT32", "<u4", 4, "I"),
        _integer("UINT64", "<u8", 8, "Q"),
        _integer("INT8", "|i1", 1, "b"),
        _integer("INT16", "<i2", 2, "h"),
        _integer("INT32", "<i4", 4, "i"),
        _integer("INT64", "<i8", 8, "q"),
        Datatype("FP16", "<f2", 2, "e"),
        # numpy has no bfloat16: the raw 16 bits are kept, and codecs widen them to float32.
        Datatype("BF16", "<u2", 2, "H"),
        Datatype("FP32", "<f4", 4, "f"),
        Datatype("FP64", "<f8", 8, "d"),
        Datatype("BYTES", "|O", 0, ""),
    )
}


def datatype(name: str, where: str) -> Datatype:
    """Look up a datatype by its name on the wire.

    Raises:
        InvalidInput: the protocol has no such datatype; `where` names the tensor.
    """
    found = DATATYPES.get(name)
    if found is None:
        raise InvalidInput(
            f"{where}: unknown datatype '{shorten(name)}', expected one of {', '.join(DATATYPES)}"
        )
    return found


def element_count(shape: Sequence[int], where: str) -> int:
    """Number of elements in `shape`, checked before anything is allocated.

    Raises:
        InvalidInput: a dimension is negative or over 2^31-1, or the rank is over 32.
    """
    if len(shape) > MAX_RANK:
        raise too_many_dimensions(len(shape), where)
    count = 1
    for position, dim in enumerate(shape):
        if not 0 <= dim <= MAX_DIM:
            raise InvalidInput(
                f"{where}: shape[{position}] must be from 0 to {MAX_DIM}, got {shorten(dim, 24)}"
            )
        count *= dim
    return count


def too_many_dimensions(rank: int, where: str) -> InvalidInput:
    """The error for a shape of more than `MAX_RANK` dimensions."""
    return InvalidInput(f"{where}: shape has {rank} dimensions, at most {MAX_RANK} allowed")
