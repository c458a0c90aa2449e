"""Whole numbers and booleans some of which are missing, which no datatype of the protocol holds.

Such a tensor is BYTES, one JSON value (a number, a boolean or null) an element, and a parameter has
the datatype of its column. So it crosses processes and is cut into rows like any other. A JSON
answer has the column's datatype, and null where a value is missing; raw bytes cannot carry that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from headrace.errors import BadModelOutput, shorten
from headrace.protocol.datatypes import element_count
from headrace.protocol.reserved_parameters import NULLABLE
from headrace.protocol.tensor import Tensor, pack_bytes, unpack_bytes


def tensor(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> Tensor:
    """The tensor of these integers or booleans, row-major, of which some are None."""
    cells = pack_bytes([json.dumps(value).encode() for value in values])
    return Tensor(
        name, "BYTES", list(shape), cells, {"content_type": "pd_json", NULLABLE: datatype}
    )


def datatype_of(tensor: Tensor) -> str | None:
    """The datatype of the column, or None for any other tensor."""
    parameters = tensor.parameters
    return parameters.get(NULLABLE) if parameters else None


def values_of(tensor: Tensor) -> list[Any]:
    """The integers or booleans, and None where one is missing."""
    where = f"output '{shorten(tensor.name)}'"
    elements = unpack_bytes(tensor.data, element_count(tensor.shape, where), where)
    return [json.loads(element) for element in elements]


def described(tensor: Tensor, datatype: str) -> dict[str, Any]:
    """The output as a JSON answer has it, with its data flat and row-major."""
    hidden = ("content_type", NULLABLE)
    own = {key: value for key, value in (tensor.parameters or {}).items() if key not in hidden}
    item: dict[str, Any] = {"name": tensor.name, "shape": tensor.shape, "datatype": datatype}
    if own:
        item["parameters"] = own
    item["data"] = values_of(tensor)
    return item


def refuse(tensor: Tensor, datatype: str) -> None:
    """Refuse to send the tensor as raw bytes.

    Raises:
        BadModelOutput: always.
    """
    missing = sum(value is None for value in values_of(tensor))
    raise BadModelOutput(
        f"output '{shorten(tensor.name)}' has {missing} missing values, which {datatype} can hold "
        "in a JSON answer only, as null; ask for this output as JSON over REST"
    )
