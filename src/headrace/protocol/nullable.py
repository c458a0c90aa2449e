"""Numbers that no datatype of the protocol holds as they are: some missing, or of two kinds.

Integers and booleans have no null, and doubles make a fraction of the integer beside one. Such a
tensor is BYTES, one JSON value an element, and a parameter has the datatype of its column. So it
crosses processes and is cut into rows like any other. A JSON answer has the column's datatype, and
null where a value is missing; raw bytes cannot carry that.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

from headrace.errors import BadModelOutput, shorten
from headrace.protocol.blocks import blocks, flat
from headrace.protocol.datatypes import DATATYPES, element_count
from headrace.protocol.reserved_parameters import NULLABLE
from headrace.protocol.tensor import Tensor, pack_bytes, unpack_bytes


def tensor(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> Tensor:
    """The tensor of these numbers or booleans, all finite and row-major; None is missing."""
    cells = pack_bytes([json.dumps(value).encode() for value in values])
    return Tensor(
        name, "BYTES", list(shape), cells, {"content_type": "pd_json", NULLABLE: datatype}
    )


def datatype_of(tensor: Tensor) -> str | None:
    """The datatype of the column, or None for any other tensor."""
    parameters = tensor.parameters
    return parameters.get(NULLABLE) if parameters else None


def values_of(tensor: Tensor) -> list[Any]:
    """The numbers or booleans, and None where one is missing."""
    where = f"output '{shorten(tensor.name)}'"
    elements = unpack_bytes(tensor.data, element_count(tensor.shape, where), where)
    return [json.loads(element) for element in elements]


def described(tensor: Tensor, datatype: str) -> dict[str, Any]:
    """The output as a JSON answer has it, but for its data."""
    item: dict[str, Any] = {"name": tensor.name, "shape": tensor.shape, "datatype": datatype}
    if own := _own(tensor):
        item["parameters"] = own
    return item


def raw(tensor: Tensor, datatype: str) -> Tensor:
    """The tensor with its numbers as raw bytes.

    Raises:
        BadModelOutput: one is missing, which its datatype cannot say.
    """
    code = DATATYPES[datatype].code
    parts, missing = [], 0
    # In blocks, because there may be millions.
    for block in blocks(flat(tensor)):
        values = values_of(block)
        missing += values.count(None)
        if not missing:
            parts.append(struct.pack(f"<{len(values)}{code}", *values))
    if missing:
        raise BadModelOutput(
            f"output '{shorten(tensor.name)}' has {missing} missing values, which {datatype} can "
            "hold in a JSON answer only, as null; ask for this output as JSON over REST"
        )
    return Tensor(tensor.name, datatype, tensor.shape, b"".join(parts), _own(tensor) or None)


def _own(tensor: Tensor) -> dict[str, Any]:
    """The parameters that are not about this form of it."""
    hidden = ("content_type", NULLABLE)
    return {key: value for key, value in (tensor.parameters or {}).items() if key not in hidden}
