"""The request that a model's metadata describes, made from nothing else."""

from __future__ import annotations

import json
from math import prod
from typing import Any

from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.messages import InferenceRequest, TensorMetadata
from headrace.protocol.tensor import Tensor, pack_bytes

# An element of a BYTES tensor, by the content type that the metadata names.
ELEMENTS = {
    "base64": b"YQ==",
    "datetime": b"2024-05-07T01:02:03",
    "json": b"1",
}


def value_of(schema: dict[str, Any]) -> Any:
    """A value that a JSON Schema of metadata describes."""
    if schema.get("format") == "date-time":
        return "2024-05-07T01:02:03"
    if schema.get("type") == "object" and "properties" in schema:
        return {name: value_of(inner) for name, inner in schema["properties"].items()}
    if schema.get("type") == "object":
        return {"a": value_of(schema.get("additionalProperties") or {})}
    if schema.get("type") == "array":
        return [value_of(schema["items"])] * 2
    plain = {"string": "YQ==", "boolean": True, "integer": 3, "number": 2.5}
    return plain.get(schema.get("type", ""), 1)


def request_of(inputs: list[TensorMetadata], rows: int = 2) -> InferenceRequest:
    """Zeros, or text, in every input; the first free dimension is `rows`, and others are 1."""
    return InferenceRequest([_tensor(each, rows) for each in inputs])


def body_of(inputs: list[dict[str, Any]], rows: int = 2) -> dict[str, Any]:
    """The same as the JSON body of `/v2/models/{name}/infer`, from the metadata as JSON."""
    return {
        "inputs": [
            {
                "name": each["name"],
                "datatype": each["datatype"],
                "shape": _shape(each["shape"], rows),
                "data": values_of(each, rows),
            }
            for each in inputs
        ]
    }


def values_of(each: dict[str, Any], rows: int = 2) -> list[Any]:
    """The elements of an input, flat; text for datatype BYTES."""
    count = prod(_shape(each["shape"], rows))
    if each["datatype"] == "BYTES":
        return [_element(each.get("parameters") or {}).decode()] * count
    return [False if each["datatype"] == "BOOL" else 0] * count


def _shape(shape: list[int], rows: int) -> list[int]:
    return [(rows if place == 0 else 1) if size < 0 else size for place, size in enumerate(shape)]


def _element(parameters: dict[str, Any]) -> bytes:
    content_type = parameters.get("content_type") or ""
    if content_type == "pd_json":
        return json.dumps(value_of(json.loads(parameters["json_schema"]))).encode()
    return ELEMENTS.get(content_type, b"a")


def _tensor(each: TensorMetadata, rows: int) -> Tensor:
    shape = _shape(each.shape, rows)
    if each.datatype == "BYTES":
        data = pack_bytes([_element(each.parameters)] * prod(shape))
    else:
        data = bytes(prod(shape) * DATATYPES[each.datatype].itemsize)
    return Tensor(each.name, each.datatype, shape, data)
