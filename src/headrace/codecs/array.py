"""Numeric arrays and arrays of cells, to tensors and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.codecs import bytes_elements, containers, times
from headrace.errors import BadModelOutput, InvalidInput, shorten
from headrace.protocol import nullable
from headrace.protocol.bfloat16 import from_bfloat16
from headrace.protocol.datatypes import DATATYPES, EXACT_IN_FLOAT, datatype
from headrace.protocol.tensor import Tensor, pack_bytes

_NAMES: dict[str, str] = {
    np.dtype(row.numpy).str: row.name
    for row in DATATYPES.values()
    if row.itemsize and row.name != "BF16"
}
_DTYPES = {row.name: np.dtype(row.numpy) for row in DATATYPES.values() if row.itemsize}


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
        return from_bfloat16(flat)
    if writable and not flat.flags.writeable:
        return flat.copy()
    return flat


def tensor_of(name: str, value: np.ndarray[Any, Any]) -> Tensor:
    """The array as a tensor of the same shape, little-endian and row-major.

    Text, bytes, times and Python objects become BYTES whose `content_type` parameter says
    how each element is written. Elements that are masked are missing.

    Raises:
        BadModelOutput: an element has no form in the protocol or in JSON.
    """
    kind = value.dtype.kind
    if type(value) is not np.ndarray and isinstance(value, np.ma.MaskedArray):
        return _masked(name, value)
    if kind in "biuf":
        return _numbers(name, value)
    if kind == "O":
        narrowed = _narrow(value)
        if narrowed is not None:
            return _numbers(name, narrowed)
        return _cells(name, value.shape, value.ravel().tolist())
    if kind == "M":
        return _times(name, value)
    if kind == "m":
        return _cells(name, value.shape, times.seconds_of(value).ravel().tolist())
    if kind in "UST" or issubclass(value.dtype.type, np.void):
        # What a structured array has in its fields, jsontext writes; tolist would count ticks.
        return _cells(
            name, value.shape, list(value.flat) if value.dtype.names else value.ravel().tolist()
        )
    raise BadModelOutput(
        f"output '{shorten(name)}': arrays of dtype {shorten(value.dtype)} cannot be sent"
    )


def array_from(value: list[Any] | tuple[Any, ...]) -> np.ndarray[Any, Any]:
    """A list of anything as an array: rectangular nested lists become further dimensions."""
    value = containers.plain(value)
    try:
        array: np.ndarray[Any, Any] = np.array(value, dtype=object)
    except ValueError:
        array = _objects(list(value))
    if not array.size:
        return np.empty(array.shape, np.float64)
    narrowed = _narrow(array)
    return array if narrowed is None else narrowed


def answer_of(name: str, value: np.ndarray[Any, Any] | list[Any] | tuple[Any, ...]) -> Tensor:
    """A list, or an array, that a model returned, as `array_from` and `tensor_of` make tensors.

    Where it holds integers and fractions, a JSON answer writes each as what it is.

    Raises:
        BadModelOutput: an element has no form in the protocol or in JSON.
    """
    array = value if isinstance(value, np.ndarray) else array_from(value)
    if array is value and array.dtype.kind == "O":
        narrowed = _narrow(array)
        array = array if narrowed is None else narrowed
    may_be_mixed = array.dtype.kind == "f" and array is not value and array.size
    if may_be_mixed and set(map(type, value)) != {float}:
        values = np.array(containers.plain(value), dtype=object).ravel().tolist()
        if set(map(type, values)) == {int, float} and np.isfinite(array).all():
            return nullable.tensor(name, "FP64", array.shape, values)
    return tensor_of(name, array)


def nullable_of(name: str, values: np.ndarray[Any, Any], missing: np.ndarray[Any, Any]) -> Tensor:
    """The tensor of numbers, booleans or times of which those that are `missing` are null.

    Floating-point numbers have NaN, and times NaT, for that; for whole numbers and booleans, see
    `headrace.protocol.nullable`.
    """
    if not missing.any():
        return tensor_of(name, values)
    kind = values.dtype.kind
    if kind in "fcMm":
        values = values.copy()
        values[missing] = np.nan if kind in "fc" else np.array("NaT", values.dtype)
        return tensor_of(name, values)
    cells = values.astype(object)
    cells[missing] = None
    if kind not in "biu":
        return tensor_of(name, cells)
    datatype = _NAMES[values.dtype.newbyteorder("<").str]
    return nullable.tensor(name, datatype, cells.shape, cells.ravel().tolist())


def _masked(name: str, value: Any) -> Tensor:
    if value.dtype.names:
        # Each of its fields may be masked.
        return _cells(name, value.shape, value.ravel().tolist())
    return nullable_of(name, np.asarray(value), np.ma.getmaskarray(value))


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
        if all(abs(item) <= EXACT_IN_FLOAT for item in values if type(item) is int):
            return np.array(values, np.float64).reshape(value.shape)
        return None
    if len(kinds) > 1:
        return None
    kind = kinds.pop()
    if kind not in (int, float, bool) and not issubclass(kind, (np.number, np.bool_)):
        return None
    narrow: np.ndarray[Any, Any] = np.array(values)
    # Of integers that no one datatype holds, numpy makes rounded floats.
    wanted = "iu" if kind is int or issubclass(kind, np.integer) else "bf"
    return narrow.reshape(value.shape) if narrow.dtype.kind in wanted else None


def _times(name: str, value: np.ndarray[Any, Any]) -> Tensor:
    texts = times.texts_of(value).ravel().tolist()
    if None in texts:
        return _cells(name, value.shape, texts)
    packed = pack_bytes([text.encode() for text in texts])
    return Tensor(name, "BYTES", list(value.shape), packed, {"content_type": "datetime"})


def _cells(name: str, shape: tuple[int, ...], values: list[Any]) -> Tensor:
    content_type, elements = bytes_elements.encode(values, f"output '{shorten(name)}'")
    return Tensor(name, "BYTES", list(shape), pack_bytes(elements), {"content_type": content_type})
