"""Reads one member of a JSON body without decoding the rest."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

Leaf = str | int | float | bool | None


def member(headers: Mapping[bytes, bytes], body: bytes, path: str) -> str | None:
    """The text or number at a dotted path of a body, as text, or None if the body has no
    such member.

    What follows the JSON of a binary request is not read.
    """
    length = headers.get(b"inference-header-content-length", b"")
    names = path.split(".")
    try:
        text = body[: int(length)] if length.isdigit() else body
        found = msgspec.json.decode(text, type=_form(tuple(names)))
    except (msgspec.DecodeError, ValueError, RecursionError):
        # The body is refused when it is decoded.
        return None
    for _ in names:
        found = found.value if found is not None else None
    return None if found is None else str(found)


@lru_cache(maxsize=64)
def _form(names: tuple[str, ...]) -> Any:
    """A struct with only the member `names[0]`, which has only `names[1]`, and so on."""
    if not names:
        return Leaf
    inner = _form(names[1:])
    return msgspec.defstruct("Members", [("value", inner | None, None)], rename={"value": names[0]})
