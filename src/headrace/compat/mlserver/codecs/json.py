"""JSON texts as elements."""

from __future__ import annotations

import json
from typing import Any

from headrace.codecs import jsontext
from headrace.compat.mlserver.codecs.lists import as_list
from headrace.errors import BadModelOutput


def encode_to_json_bytes(v: Any) -> bytes:
    """Compact JSON in UTF-8; arrays become lists, NaN becomes null, bytes their text.

    Raises:
        BadModelOutput: some part has no JSON form, or bytes are not UTF-8.
    """
    return dumps(v, "value")


def dumps(value: Any, where: str) -> bytes:
    """What `encode_to_json_bytes` gives; errors begin with `where`."""
    return jsontext.dumps(_with_text(value, where), where)


def _with_text(value: Any, where: str) -> Any:
    if isinstance(value, (bytes, bytearray)):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadModelOutput(f"{where}: bytes that are not UTF-8 have no JSON form") from error
    if isinstance(value, dict):
        return {_with_text(key, where): _with_text(item, where) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_text(item, where) for item in value]
    return value


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
