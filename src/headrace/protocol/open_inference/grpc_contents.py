"""Typed tensor contents: one repeated field per group of datatypes.

Implements `InferTensorContents` of the Open Inference Protocol's gRPC API. A packed field of
floats or booleans is the tensor's own bytes behind a tag and a length, so these are copied
without a Python object per number.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from headrace.errors import BadModelOutput, InvalidInput, shorten
from headrace.protocol.datatypes import DATATYPES, Datatype
from headrace.protocol.open_inference.data_faults import label, out_of_range
from headrace.protocol.tensor import Buffer, Tensor, pack_bytes, unpack_bytes

_LENGTH_DELIMITED = 2
# Numbers that are taken from a message in one go, in a few milliseconds.
_STEP = 64 * 1024


class _Field(NamedTuple):
    """The field of a datatype; `wide` is the numpy type that holds every value of the field."""

    name: str
    number: int
    wide: str = ""

    @property
    def tag(self) -> bytes:
        return bytes([self.number << 3 | _LENGTH_DELIMITED])


_INT = _Field("int_contents", 2, "<i4")
_UINT = _Field("uint_contents", 4, "<u4")
FIELDS = {
    "BOOL": _Field("bool_contents", 1, "|b1"),
    "INT8": _INT,
    "INT16": _INT,
    "INT32": _INT,
    "INT64": _Field("int64_contents", 3, "<i8"),
    "UINT8": _UINT,
    "UINT16": _UINT,
    "UINT32": _UINT,
    "UINT64": _Field("uint64_contents", 5, "<u8"),
    "FP32": _Field("fp32_contents", 6, "<f4"),
    "FP64": _Field("fp64_contents", 7, "<f8"),
    "BYTES": _Field("bytes_contents", 8),
}
_SAME_BYTES = ("BOOL", "FP32", "FP64")


def has_typed_form(tensor: Tensor) -> bool:
    """Whether typed contents can carry a tensor; FP16 and BF16 are raw only."""
    return tensor.datatype in FIELDS


def read_contents(
    contents: Any, kind: Datatype, shape: Sequence[int], count: int, name: str
) -> Buffer:
    """The raw bytes of the tensor that `contents` holds in the field of its datatype.

    Raises:
        InvalidInput: another field is set, the number of elements is not `count`, or one does
            not fit the datatype.
    """
    where = label(name)
    present = contents.ListFields()
    if not present and not count:
        return b""
    if not present:
        raise InvalidInput(f"{where}: data is missing")
    field = FIELDS.get(kind.name)
    names = [descriptor.name for descriptor, _ in present]
    if field is None or names != [field.name]:
        raise wrong_field(kind, names, where)
    values = present[0][1]
    if len(values) != count:
        raise InvalidInput(
            f"{where}: shape {list(shape)} needs {count} elements, data has {len(values)}"
        )
    if kind.name == "BYTES":
        return pack_bytes(values)
    if kind.name in _SAME_BYTES:
        packed = _packed_bytes(contents, field, count * kind.itemsize)
        if packed is not None:
            return packed
    wide = np.empty(count, field.wide)
    # In steps, between which other threads get the interpreter's lock.
    for start in range(0, count, _STEP):
        part = values[start : start + _STEP]
        wide[start : start + len(part)] = part
    return _narrow(wide, kind, shape, name)


def wrong_field(kind: Datatype, names: list[str], where: str) -> InvalidInput:
    """The error for contents in other fields than the one for their datatype."""
    field = FIELDS.get(kind.name)
    if field is None:
        return InvalidInput(
            f"{where}: {kind.name} has no typed contents; send it as raw_input_contents"
        )
    return InvalidInput(f"{where}: {kind.name} belongs in {field.name}, got {' and '.join(names)}")


def write_contents(tensor: Tensor, contents: Any) -> None:
    """Set the field of `contents` that belongs to a tensor's datatype.

    Raises:
        BadModelOutput: the data of a BYTES tensor is cut short.
    """
    kind = DATATYPES[tensor.datatype]
    field = FIELDS[tensor.datatype]
    if tensor.datatype == "BYTES":
        getattr(contents, field.name).extend(_elements(tensor))
        return
    if tensor.datatype not in _SAME_BYTES:
        getattr(contents, field.name).extend(np.frombuffer(tensor.data, kind.numpy).tolist())
        return
    data = tensor.data
    if tensor.datatype == "BOOL":
        data = (np.frombuffer(data, np.uint8) != 0).view(np.uint8).data
    if tensor.nbytes:
        contents.MergeFromString(b"".join([field.tag, varint(tensor.nbytes), data]))


def _packed_bytes(contents: Any, field: _Field, size: int) -> memoryview | None:
    """The elements as encoded in the message; None if it holds more than this field."""
    encoded = contents.SerializeToString()
    head = field.tag + varint(size)
    if len(encoded) != len(head) + size or not encoded.startswith(head):
        return None
    return memoryview(encoded)[len(head) :]


def _narrow(
    values: np.ndarray[Any, Any], kind: Datatype, shape: Sequence[int], name: str
) -> Buffer:
    if kind.low is not None and kind.high is not None:
        outside = (values < kind.low) | (values > kind.high)
        if outside.any():
            raise out_of_range(int(outside.argmax()), kind, shape, name)
    return values.astype(kind.numpy, copy=False).view(np.uint8).data


def _elements(tensor: Tensor) -> list[bytes]:
    try:
        return unpack_bytes(tensor.data, prod(tensor.shape), f"output '{shorten(tensor.name)}'")
    except InvalidInput as error:
        raise BadModelOutput(error.message) from None


def varint(number: int) -> bytes:
    """A number as protobuf writes lengths: seven bits per byte, the lowest first."""
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
