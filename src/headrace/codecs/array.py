"""Numeric arrays and arrays of cells, to tensors and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.codecs import bytes_elements
from headrace.errors import BadModelOutput, InvalidInput, shorten
from headrace.protocol.datatypes import DATATYPES, datatype
from headrace.protocol.tensor import Tensor, pack_bytes

_NAMES: dict[str, str] = {
    np.dtype(row.numpy).str: row.name
    for row in DATATYPES.values()
    if row.itemsize and row.name != "BF16"
}
_DTYPES = {row.name: np.dtype(row.numpy) for row in DATATYPES.values() if row.itemsize}
_EXACT_IN_FLOAT = 2**53


def array_of(tensor: Tensor, writable: bool = False) -> np.ndarray[Any, Any]:
    """The tensor as an array of its shape; BYTES become an object array of cells.

    Numbers are not copied: the array is a view of the tensor's own bytes, and read-only if they
    are. With `writable`, it is a copy in that case.

    Raises:
        InvalidInput: a cell does not decode, or the bytes do not fill the shape.
    """
    shape = tuple(tensor.shape)
    if tensor.datatype == "BYTES":
        values = bytes_elements.decode(tensor)
        return _objects(values).reshape(shape)
    return numbers_of(tensor, writable).reshape(shape)


def numbers_of(tensor: Tensor, writable: bool = False) -> np.ndarray[Any, Any]:
    """The elements of a tensor of numbers as a flat array; BF16 is widened to float32."""
    dtype = _DTYPES.get(tensor.datatype)
    if dtype is None:
        datatype(tensor.datatype, f"input '{shorten(tensor.name)}'")
        raise InvalidInput(
            f"input '{shorten(tensor.name)}': expected numbers, got datatype {tensor.datatype}"
        )
    if not tensor.nbytes:
        return np.empty(0, np.float32 if tensor.datatype == "BF16" else dtype)
    flat: np.ndarray[Any, Any] = np.frombuffer(tensor.data, dtype)
    if tensor.datatype == "BF16":
        return (flat.astype(np.uint32) << 16).view(np.float32)
    if writable and not flat.flags.writeable:
        return flat.copy()
    return flat


def tensor_of(name: str, value: np.ndarray[Any, Any]) -> Tensor:
    """The array as a tensor of the same shape, little-endian and row-major.

    Text, bytes, times and Python objects become BYTES whose `content_type` parameter says
    how each element is written.

    Raises:
        BadModelOutput: an element has no form in the protocol or in JSON.
    """
    kind = value.dtype.kind
    if kind in "biuf":
        return _numbers(name, value)
    if kind == "O":
        narrowed = _narrow(value)
        if narrowed is not None:
            return _numbers(name, narrowed)
        return _cells(name, value.shape, value.ravel().tolist())
    if kind == "M":
        return _times(name, value)
    if kind in "USm":
        return _cells(name, value.shape, value.ravel().tolist())
    raise BadModelOutput(
        f"output '{shorten(name)}': arrays of dtype {shorten(value.dtype)} cannot be sent"
    )


def array_from(value: list[Any] | tuple[Any, ...]) -> np.ndarray[Any, Any]:
    """A list of anything as an array: rectangular nested lists become further dimensions."""
    try:
        array: np.ndarray[Any, Any] = np.array(value, dtype=object)
    except ValueError:
        array = _objects(list(value))
    if not array.size:
        return np.empty(array.shape, np.float64)
    narrowed = _narrow(array)
    return array if narrowed is None else narrowed


def _objects(values: list[Any]) -> np.ndarray[Any, Any]:
    # np.array would look inside elements that are lists; fromiter takes them as they are.
    return np.fromiter(values, dtype=object, count=len(values))


def _numbers(name: str, value: np.ndarray[Any, Any]) -> Tensor:
    datatype = _NAMES.get(value.dtype.str)
    if datatype is None:
        dtype = value.dtype
        little = np.dtype(np.float64) if dtype.itemsize > 8 else dtype.newbyteorder("<")
        value = value.astype(little)
        datatype = _NAMES[value.dtype.str]
    return Tensor(name, datatype, list(value.shape), value.tobytes())


def _narrow(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Objects that are all numbers of one kind as an array of numbers, else None."""
    values = value.ravel().tolist()
    kinds = set(map(type, values))
    if not kinds:
        return None
    if kinds == {int, float}:
        if all(abs(item) <= _EXACT_IN_FLOAT for item in values if type(item) is int):
            return np.array(values, np.float64).reshape(value.shape)
        return None
    if len(kinds) > 1:
        return None
    kind = kinds.pop()
    if kind not in (int, float, bool) and not issubclass(kind, (np.number, np.bool_)):
        return None
    narrow: np.ndarray[Any, Any] = np.array(values)
    return narrow.reshape(value.shape) if narrow.dtype.kind in "biuf" else None


def _times(name: str, value: np.ndarray[Any, Any]) -> Tensor:
    texts: list[str | None] = [
        _isoformat(text) for text in np.datetime_as_string(value).ravel().tolist()
    ]
    missing = np.isnat(value).ravel().tolist()
    if any(missing):
        texts = [None if absent else text for text, absent in zip(texts, missing)]
        return _cells(name, value.shape, texts)
    packed = pack_bytes([str(text).encode() for text in texts])
    return Tensor(name, "BYTES", list(value.shape), packed, {"content_type": "datetime"})


def _isoformat(text: str) -> str:
    """The time with a fraction of no, six or nine digits, as datetime and pandas write it."""
    head, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    if not fraction:
        return head
    return f"{head}.{fraction.ljust(6 if len(fraction) <= 6 else 9, '0')}"


def _cells(name: str, shape: tuple[int, ...], values: list[Any]) -> Tensor:
    content_type, elements = bytes_elements.encode(values, f"output '{shorten(name)}'")
    return Tensor(name, "BYTES", list(shape), pack_bytes(elements), {"content_type": content_type})
