"""JSON texts as elements."""

from __future__ import annotations

import json
from typing import Any

from headrace.codecs import jsontext
from headrace.compat.mlserver.codecs.lists import as_list


def encode_to_json_bytes(v: Any) -> bytes:
    """Compact JSON in UTF-8; arrays become lists, NaN becomes null."""
    return jsontext.dumps(v, "value")


def encode_to_json(v: Any, use_bytes: bool = True) -> str | bytes:
    """Compact JSON, as bytes or as text."""
    encoded = encode_to_json_bytes(v)
    return encoded if use_bytes else encoded.decode("utf-8")


def decode_from_bytelike_json_to_dict(v: str | bytes) -> Any:
    """The value of a JSON text."""
    return json.loads(v)


def decode_json_input_or_output(input_or_output: Any) -> list[Any]:
    """The value of each element."""
    return [json.loads(element) for element in as_list(input_or_output.data.root)]
