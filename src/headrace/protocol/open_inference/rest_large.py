"""Large JSON answers, with or without binary tensor data, put together in pieces."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import orjson

from headrace.protocol import nullable
from headrace.protocol.blocks import STEP, blocks, elements, flat
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.open_inference.rest_data import json_values, not_text
from headrace.protocol.piecewise import Pieces, inner
from headrace.protocol.tensor import Tensor

_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def encode_large(
    answer: dict[str, Any], response: InferenceResponse, binary_outputs: Container[str]
) -> tuple[bytes, int | None]:
    """As `rest_json.encode_response` does; `answer` is what precedes the outputs.

    Raises:
        BadModelOutput: an output has no JSON form.
        JSONEncodeError, TypeError: a name or a parameter has none.
    """
    pieces = Pieces()
    pieces.add(orjson.dumps(answer)[:-1] + b',"outputs":[')
    raw = []
    for index, tensor in enumerate(response.outputs):
        if index:
            pieces.add(b",")
        column = nullable.datatype_of(tensor)
        if tensor.name in binary_outputs:
            if column:
                tensor = nullable.raw(tensor, column)
            raw.append(tensor.data)
            parameters = {**(tensor.parameters or {}), "binary_data_size": tensor.nbytes}
            described = _described(tensor, parameters)
            pieces.add(orjson.dumps(described))
        else:
            described = (
                nullable.described(tensor, column)
                if column
                else _described(tensor, tensor.parameters)
            )
            pieces.add(orjson.dumps(described)[:-1] + b',"data":')
            _add_data(pieces, tensor, column)
            pieces.add(b"}")
    size = pieces.add_last(b"]}")
    for data in raw:
        pieces.add_buffer(data)
    return pieces.whole(), size if raw else None


def _described(tensor: Tensor, parameters: Any) -> dict[str, Any]:
    item = {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype}
    return {**item, "parameters": parameters} if parameters else item


def _add_data(pieces: Pieces, tensor: Tensor, column: str | None) -> None:
    pieces.add(b"[")
    for index, block in enumerate(blocks(flat(tensor))):
        if index:
            pieces.add(b",")
        if column:
            pieces.add(inner(orjson.dumps(nullable.values_of(block))))
        elif tensor.datatype == "BYTES" and block.nbytes > 2 * STEP:
            _add_texts(pieces, block)
        else:
            pieces.add(inner(orjson.dumps(json_values(block), option=_NUMPY)))
    pieces.add(b"]")


def _add_texts(pieces: Pieces, block: Tensor) -> None:
    """Add texts of which one at least is large."""
    try:
        for index, element in enumerate(elements(block)):
            if index:
                pieces.add(b",")
            pieces.add_text(element)
    except UnicodeDecodeError:
        raise not_text(block) from None
