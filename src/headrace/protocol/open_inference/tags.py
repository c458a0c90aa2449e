"""The tags of fields, with which they begin in a message."""

from __future__ import annotations

from typing import Any

_LENGTH_DELIMITED = 2


def tag(message: Any, name: str) -> bytes:
    """The tag of a field with a length, whose number is below 16."""
    number = message.DESCRIPTOR.fields_by_name[name].number
    return bytes([number << 3 | _LENGTH_DELIMITED])
