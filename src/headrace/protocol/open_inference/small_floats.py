"""Small requests whose inputs are all floats, which most are: their numbers are read in one pass.

Whatever is not plainly right is left to the usual way of reading, which says what is wrong. Hot.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from math import nan
from typing import Any, Literal

import msgspec

from headrace.protocol.datatypes import DATATYPES, MAX_DIM, MAX_RANK
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.table_request import Table, TableRequest
from headrace.protocol.tensor import Tensor

# What the body of every such request has.
SIGN = b'"FP'


class Floats(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One input, with its numbers in a flat list."""

    name: str
    shape: list[int]
    datatype: Literal["FP64", "FP32"]
    data: list[float | None]


class FloatsBody(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A request that asks for no outputs by name."""

    inputs: list[Floats]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: None = None


_decode = msgspec.json.Decoder(FloatsBody).decode


def read_floats(
    body: bytes, most_inputs: int, columns: list[str] | None
) -> tuple[InferenceRequest, FloatsBody] | None:
    """The inputs of a small body, and what is beside them; None to read it the usual way.

    `columns` are the names of inputs that are a table of FP64, if the model takes such a table.
    """
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    inputs = found.inputs
    if len(inputs) == 1 and not columns:
        tensor = _tensor(inputs[0])
        return None if tensor is None else (InferenceRequest([tensor]), found)
    if len(inputs) > most_inputs:
        return None
    if columns and [each.name for each in inputs] == columns and (table := _table(inputs, columns)):
        return TableRequest(table), found
    tensors = [tensor for each in inputs if (tensor := _tensor(each)) is not None]
    # Two of the same name are refused.
    if not len(inputs) == len(tensors) == len({each.name for each in inputs}) > 0:
        return None
    return InferenceRequest(tensors), found


def _tensor(given: Floats) -> Tensor | None:
    values, shape = given.data, given.shape
    count = 1
    for dim in shape:
        if not 0 < dim <= MAX_DIM:
            return None
        count *= dim
    if count != len(values) or len(shape) > MAX_RANK:
        return None
    pack = _packer(given.datatype, count)
    try:
        data = pack(*values)
    except struct.error:
        # Overflows are left to the usual way as well.
        try:
            data = pack(*[nan if value is None else value for value in values])
        except OverflowError:
            return None
    except OverflowError:
        return None
    return Tensor(given.name, given.datatype, shape, data)


def _table(inputs: list[Floats], columns: list[str]) -> Table | None:
    shape = inputs[0].shape
    if len(shape) != 1 or not 0 < shape[0] <= MAX_DIM:
        return None
    for each in inputs:
        if each.datatype != "FP64" or each.shape != shape or len(each.data) != shape[0]:
            return None
    return Table.of(columns, list(zip(*[each.data for each in inputs], strict=True)))


@lru_cache(maxsize=256)
def _packer(datatype: str, count: int) -> Callable[..., bytes]:
    return struct.Struct(f"<{count}{DATATYPES[datatype].code}").pack
