"""The request that a model's metadata describes, made from nothing else."""

from __future__ import annotations

from math import prod
from typing import Any

from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.messages import InferenceRequest, TensorMetadata
from headrace.protocol.tensor import Tensor, pack_bytes

# An element of a BYTES tensor, by the content type that the metadata names.
ELEMENTS = {
    "base64": b"YQ==",
    "datetime": b"2024-05-07T01:02:03",
    "pd_json": b"1",
    "json": b"1",
}


def request_of(inputs: list[TensorMetadata], rows: int = 2, **elements: bytes) -> InferenceRequest:
    """Zeros, or text, in every input; the first free dimension is `rows`, and others are 1.

    `elements` has what `ELEMENTS` has not, or other than that.
    """
    return InferenceRequest([_tensor(each, rows, {**ELEMENTS, **elements}) for each in inputs])


def body_of(inputs: list[dict[str, Any]], rows: int = 2, **elements: bytes) -> dict[str, Any]:
    """The same as the JSON body of `/v2/models/{name}/infer`, from the metadata as JSON."""
    tensors = request_of([TensorMetadata(**each) for each in inputs], rows, **elements).inputs
    return {
        "inputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "data": _elements(each, tensor, {**ELEMENTS, **elements}),
            }
            for each, tensor in zip(inputs, tensors, strict=True)
        ]
    }


def _shape(shape: list[int], rows: int) -> list[int]:
    return [(rows if place == 0 else 1) if size < 0 else size for place, size in enumerate(shape)]


def _element(content_type: str | None, elements: dict[str, bytes]) -> bytes:
    return elements.get(content_type or "", b"a")


def _tensor(each: TensorMetadata, rows: int, elements: dict[str, bytes]) -> Tensor:
    shape = _shape(each.shape, rows)
    if each.datatype == "BYTES":
        data = pack_bytes([_element(each.parameters.get("content_type"), elements)] * prod(shape))
    else:
        data = bytes(prod(shape) * DATATYPES[each.datatype].itemsize)
    return Tensor(each.name, each.datatype, shape, data)


def _elements(each: dict[str, Any], tensor: Tensor, elements: dict[str, bytes]) -> list[Any]:
    count = prod(tensor.shape)
    if tensor.datatype == "BYTES":
        content_type = (each.get("parameters") or {}).get("content_type")
        return [_element(content_type, elements).decode()] * count
    return [False if tensor.datatype == "BOOL" else 0] * count
