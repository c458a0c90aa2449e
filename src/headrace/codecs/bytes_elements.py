"""The elements of BYTES tensors: text, base64, times, JSON.

The `content_type` parameter of a tensor says how its elements are written; by default they
are UTF-8 text.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from typing import Any, Callable

from headrace.codecs import jsontext
from headrace.errors import InvalidInput, shorten
from headrace.protocol.datatypes import element_count
from headrace.protocol.json_floats import finite, may_be_too_large
from headrace.protocol.place import refusal
from headrace.protocol.tensor import Tensor, unpack_bytes


def raw(tensor: Tensor) -> list[bytes]:
    """The elements as received, undecoded.

    Raises:
        InvalidInput: the tensor is not BYTES, or its bytes do not fill its shape.
    """
    where = f"input '{shorten(tensor.name)}'"
    if tensor.datatype != "BYTES":
        raise InvalidInput(f"{where}: expected datatype BYTES, got {shorten(tensor.datatype)}")
    return unpack_bytes(tensor.data, element_count(tensor.shape, where), where)


def file_of(element: bytes) -> bytes:
    """The file that an element holds, as base64, also in a data URL, or as it is."""
    if element.startswith(b"data:"):
        element = element.partition(b",")[2]
    try:
        return base64.b64decode(element, validate=True)
    except binascii.Error:
        return element


def decode(tensor: Tensor, content_type: str | None = None) -> list[Any]:
    """The elements as Python values, row-major; `content_type` applies if the tensor has none.

    Raises:
        InvalidInput: an element does not fit its content type; the message has its place.
    """
    elements = raw(tensor)
    kind = tensor.content_type or content_type or "str"
    one = _DECODERS.get(kind)
    if one is None:
        raise InvalidInput(
            f"input '{shorten(tensor.name)}': unknown content type '{shorten(kind)}', "
            f"expected one of {', '.join(_DECODERS)}"
        )
    values = []
    for index, element in enumerate(elements):
        try:
            values.append(one(element))
        except (ValueError, RecursionError) as error:
            raise unreadable(tensor, index, kind) from error
    return values


def decode_base64(tensor: Tensor) -> list[bytes | None]:
    """The elements of a tensor of JSON cells, which are base64 or null.

    Raises:
        InvalidInput: an element is neither; the message has its place.
    """
    values = []
    for index, value in enumerate(decode(tensor)):
        try:
            values.append(None if value is None else _base64(value.encode()))
        except (ValueError, AttributeError) as error:
            raise unreadable(tensor, index, "base64") from error
    return values


def unreadable(tensor: Tensor, index: int, kind: str) -> InvalidInput:
    """The error for an element that is not what its content type says."""
    where = f"input '{shorten(tensor.name)}'"
    expected, got = _EXPECTED.get(kind, _EXPECTED["str"])
    return refusal(where, index, tensor.shape, expected, got)


def encode(values: list[Any], where: str) -> tuple[str, list[bytes]]:
    """Elements for a BYTES tensor and the content type that says how they are written.

    Raises:
        BadModelOutput: a value has no JSON form; the message begins with `where`.
    """
    kinds = set(map(type, values))
    if all(issubclass(kind, str) for kind in kinds):
        try:
            return "str", [value.encode() for value in values]
        except UnicodeEncodeError:
            return "pd_json", [jsontext.dumps(value, where) for value in values]
    if all(issubclass(kind, (bytes, bytearray)) for kind in kinds):
        return "base64", [base64.b64encode(value) for value in values]
    if all(issubclass(kind, (dt.datetime, dt.date)) and kind is not _nat() for kind in kinds):
        return "datetime", [value.isoformat().encode() for value in values]
    return "pd_json", [jsontext.dumps(value, where) for value in values]


def _nat() -> Any:
    # NaT claims to be a datetime; only pandas makes one.
    import sys

    pandas = sys.modules.get("pandas")
    return type(pandas.NaT) if pandas is not None else None


def parse_time(text: str) -> dt.datetime:
    """An ISO 8601 time; fractions beyond microseconds are cut off, `Z` is UTC.

    Raises:
        ValueError: the text is not such a time.
    """
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        # Before 3.11, Python reads neither `Z` nor fractions of other than three or six digits.
        head, dot, tail = text.replace("Z", "+00:00").partition(".")
        if not dot:
            return dt.datetime.fromisoformat(head)
        digits = len(tail) - len(tail.lstrip("0123456789"))
        fraction = tail[:digits][:6].ljust(6, "0")
        return dt.datetime.fromisoformat(f"{head}.{fraction}{tail[digits:]}")


def _text(element: bytes) -> str:
    return element.decode("utf-8")


def _base64(element: bytes) -> bytes:
    try:
        # MIME's encoders, MLflow's among them, write lines.
        return base64.b64decode(b"".join(element.split()), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def _time(element: bytes) -> dt.datetime:
    return parse_time(element.decode("utf-8"))


def _json(element: bytes) -> Any:
    # Python would make infinity of numbers that are too large.
    return json.loads(element, parse_float=finite if may_be_too_large(element) else None)


_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "str": _text,
    "np": _text,
    "pd": _text,
    "dict": _text,
    "base64": _base64,
    "datetime": _time,
    "pd_json": _json,
    "json": _json,
}

_TEXT = "other text"
# What an element must be, and what one is that is not.
_EXPECTED = {
    "str": ("UTF-8 text", "other bytes, which are sent with content_type 'base64'"),
    "base64": ("base64", _TEXT),
    "datetime": ("an ISO 8601 time", _TEXT),
    "pd_json": ("JSON", _TEXT),
    "json": ("JSON", _TEXT),
}
