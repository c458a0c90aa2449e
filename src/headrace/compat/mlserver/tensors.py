"""Converts tensors to the inputs and outputs of MLServer's API, and back."""

from __future__ import annotations

from typing import Any, TypeVar, Union

import numpy as np

from headrace.compat.mlserver.codecs import json
from headrace.compat.mlserver.types.data import TensorData
from headrace.compat.mlserver.types.dataplane import Parameters, RequestInput, ResponseOutput
from headrace.errors import BadModelOutput, shorten
from headrace.protocol import nullable
from headrace.protocol.datatypes import datatype, element_count
from headrace.protocol.tensor import Tensor, pack_bytes

Described = Union[RequestInput, ResponseOutput]
_Made = TypeVar("_Made", RequestInput, ResponseOutput)


def described_as(made: type[_Made], tensor: Tensor, as_bytes: bool = False) -> _Made:
    """The tensor as an input or output that shares its bytes until its list is asked for.

    `as_bytes` leaves the elements of BYTES as bytes in that list. Missing numbers are None.
    """
    column = nullable.datatype_of(tensor)
    if column is not None:
        return made(
            name=tensor.name,
            shape=tensor.shape,
            datatype=column,
            data=TensorData(nullable.values_of(tensor)),
        )
    parameters = Parameters.model_validate(tensor.parameters) if tensor.parameters else None
    return made(
        name=tensor.name,
        shape=tensor.shape,
        datatype=tensor.datatype,
        parameters=parameters,
        data=TensorData.of(tensor, as_bytes),
    )


def tensor_of(item: Described) -> Tensor:
    """The input or output as a tensor; its data may be flat, nested, an array or one value.

    Raises:
        BadModelOutput: the data does not match its shape and datatype.
    """
    where = f"output '{shorten(item.name)}'"
    parameters = item.parameters.model_dump() if item.parameters is not None else {}
    count = element_count(item.shape, where)
    tensor = item.data.tensor
    if tensor is not None and tensor.datatype == item.datatype:
        found, data = element_count(tensor.shape, where), tensor.data
    elif item.datatype == "BYTES":
        values = _flat(item.data.root)
        found, data = len(values), _pack_cells(values, parameters, where)
        if found != count and _is_lone_text(values, item):
            return Tensor(item.name, "BYTES", [1], data, parameters or None)
    else:
        with_none = _with_none(item.data.root, item.datatype)
        if with_none is not None:
            return _nullable(item, with_none, count, parameters)
        numbers = _numbers(item.data.root, item.datatype, where)
        found, data = numbers.size, numbers.tobytes()
    if found != count:
        raise BadModelOutput(
            f"{where}: shape {item.shape} takes {count} elements, but data has {found}"
        )
    return Tensor(item.name, item.datatype, item.shape, data, parameters or None)


def _is_lone_text(values: list[Any], item: Described) -> bool:
    """Whether it is one text whose shape is its own length, or that is not in a list.

    MLServer's examples answer like this, and MLServer does not insist on another shape.
    """
    if len(values) != 1 or not isinstance(values[0], (str, bytes)):
        return False
    text = values[0]
    size = len(text.encode() if isinstance(text, str) else text)
    return item.data.root is text or item.shape in ([len(text)], [size])


def _flat(root: Any) -> list[Any]:
    if isinstance(root, np.ndarray):
        root = root.tolist()
    if not isinstance(root, (list, tuple)):
        return [root]
    if not any(isinstance(item, (list, tuple)) for item in root):
        return list(root)
    return [value for item in root for value in _flat(item)]


def _pack_cells(values: list[Any], parameters: dict[str, Any], where: str) -> bytes:
    kinds = set(map(type, values))
    if all(issubclass(kind, (str, bytes, bytearray)) for kind in kinds):
        return pack_bytes([v.encode("utf-8") if isinstance(v, str) else v for v in values])
    # MLServer would put these into its JSON as they are; a BYTES tensor holds them as JSON text.
    parameters["content_type"] = "pd_json"
    return pack_bytes([json.dumps(value, where) for value in values])


def _with_none(root: Any, name: str) -> list[Any] | None:
    """The values, if they are integers or booleans and some are missing; otherwise None."""
    if datatype(name, "").is_float or type(root) is np.ndarray:
        return None
    values = _flat(root)
    return values if None in values else None


def _nullable(item: Described, values: list[Any], count: int, parameters: dict[str, Any]) -> Tensor:
    where = f"output '{shorten(item.name)}'"
    if len(values) != count:
        raise BadModelOutput(
            f"{where}: shape {item.shape} takes {count} elements, but data has {len(values)}"
        )
    numbers = _numbers([value for value in values if value is not None], item.datatype, where)
    present = iter(numbers.tolist())
    values = [None if value is None else next(present) for value in values]
    tensor = nullable.tensor(item.name, item.datatype, item.shape, values)
    tensor.parameters = {**parameters, **(tensor.parameters or {})}
    return tensor


def _numbers(root: Any, name: str, where: str) -> np.ndarray[Any, Any]:
    kind = datatype(name, where)
    if name == "BF16":
        raise BadModelOutput(f"{where}: datatype BF16 cannot be made from a list of numbers")
    try:
        root = root.tolist() if isinstance(root, np.ma.MaskedArray) else root
        given: np.ndarray[Any, Any] = np.asarray(root)
        if kind.is_integer and given.dtype.kind == "f" and not isinstance(root, np.ndarray):
            # Numpy makes rounded floats of integers that INT64 does not hold.
            given = np.array(root, dtype=object)
        elif kind.is_float and given.dtype.kind == "O":
            # None is how MLServer writes a missing number.
            given = np.asarray(root, dtype=np.float64)
        with np.errstate(all="ignore"):
            numbers = given.astype(np.dtype(kind.numpy))
        same = kind.is_float or np.array_equal(numbers, given)
    except (TypeError, ValueError, OverflowError):
        same = False
    if not same:
        raise BadModelOutput(f"{where}: data has values that datatype {name} cannot hold")
    return numbers
