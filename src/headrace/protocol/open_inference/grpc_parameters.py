"""Parameters as protobuf messages, which have five kinds of values, and as Python values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from headrace.protocol.reserved_parameters import TRANSPORT
from headrace.protocol.tensor import Parameters


def read_parameters(messages: Mapping[str, Any]) -> Parameters | None:
    """The parameters a model may see; None when there are none.

    A message without a value becomes None.
    """
    if not messages:
        return None
    values: Parameters = {}
    for key, message in messages.items():
        if key not in TRANSPORT:
            kind = message.WhichOneof("parameter_choice")
            values[key] = getattr(message, kind) if kind else None
    return values or None


def write_parameters(values: Parameters | None, messages: Any) -> None:
    """Set parameters of a message from Python values.

    Integers stay integers; values that the protocol has no kind for, such as lists, are sent as
    JSON text.

    Raises:
        TypeError, ValueError: a name or value does not have a JSON form either.
    """
    for key, value in (values or {}).items():
        message = messages[key]
        if isinstance(value, bool):
            message.bool_param = value
        elif isinstance(value, int):
            _write_integer(value, message)
        elif isinstance(value, float):
            message.double_param = value
        elif isinstance(value, str):
            message.string_param = value
        elif value is not None:
            message.string_param = orjson.dumps(value).decode()


def _write_integer(value: int, message: Any) -> None:
    if -(2**63) <= value < 2**63:
        message.int64_param = value
    elif 0 <= value < 2**64:
        message.uint64_param = value
    else:
        message.string_param = str(value)
