"""JSON answers to the requests of a batch: what they share is encoded once. Hot."""

from __future__ import annotations

from typing import Any

import orjson

from headrace.protocol.batch_answer import Part
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.open_inference.rest_data import json_values

# Bytes of an answer up to which all of it is encoded at once: this holds the event loop.
LARGEST_SHARED = 64 * 1024

_MADE = "rest_json"
_NAME, _ID = "model_name", "id"


class _Text:
    """The JSON of a whole answer, in the pieces of which the answers to its requests are made."""

    __slots__ = ("begin", "columns", "end", "name", "version")

    def __init__(self, response: InferenceResponse, name: str, version: str | None) -> None:
        self.name, self.version = name, version
        begin: dict[str, Any] = {_NAME: name}
        if version is not None:
            begin["model_version"] = version
        # Up to the id, and from behind it up to the outputs.
        self.begin = orjson.dumps(begin)[:-1] + b',"id":'
        end = b""
        if response.parameters is not None:
            end = b"," + orjson.dumps({"parameters": response.parameters})[1:-1]
        self.end = end + b',"outputs":['
        self.columns = [_Column(tensor) for tensor in response.outputs]


class _Column:
    """One output: its elements, how many of them are a row, and the text around both."""

    __slots__ = ("elements", "name", "rest", "width")

    def __init__(self, tensor: Any) -> None:
        rows, *trailing = tensor.shape
        described: dict[str, Any] = {"datatype": tensor.datatype}
        if tensor.parameters:
            described["parameters"] = tensor.parameters
        shape = b"".join(b",%d" % dim for dim in trailing)
        self.name = orjson.dumps({"name": tensor.name})[:-1] + b',"shape":['
        self.rest = shape + b"]," + orjson.dumps(described)[1:-1] + b',"data":['
        text = orjson.dumps(json_values(tensor), option=orjson.OPT_SERIALIZE_NUMPY)
        self.elements = text[1:-1].split(b",")
        self.width = len(self.elements) // rows


def encode_part(part: Part, name: str, version: str | None, id: str) -> bytes:
    """The JSON answer to one request of a batch, byte for byte as `encode_response` has it.

    Raises:
        JSONEncodeError, TypeError: something of it has no JSON form.
    """
    answer = part.answer
    text = answer.made.get(_MADE)
    if text is None or text.name != name or text.version != version:
        text = answer.made[_MADE] = _Text(answer.response, name, version)
    rows, first = part.rows, part.first
    last = first + rows
    outputs = [
        b"%b%d%b%b]}"
        % (
            column.name,
            rows,
            column.rest,
            b",".join(column.elements[first * column.width : last * column.width]),
        )
        for column in text.columns
    ]
    return b"%b%b%b%b]}" % (text.begin, orjson.dumps(id), text.end, b",".join(outputs))
