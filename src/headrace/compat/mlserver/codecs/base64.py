"""Bytes as base64 text."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from headrace.compat.mlserver.codecs.base import register_input_codec
from headrace.compat.mlserver.codecs.element_codec import CellsCodec
from headrace.compat.mlserver.codecs.lists import is_list_of


@register_input_codec
class Base64Codec(CellsCodec):
    """A list of bytes. What is not base64 is taken as the bytes themselves, as in MLServer."""

    ContentType = "base64"
    TypeHint = list[bytes]

    @classmethod
    def can_encode(cls, payload: Any) -> bool:
        return is_list_of(payload, bytes)

    @classmethod
    def encode_element(cls, element: Any) -> bytes:
        return base64.b64encode(element.encode() if isinstance(element, str) else element)

    @classmethod
    def decode_element(cls, element: Any) -> bytes:
        raw: bytes = element.encode() if isinstance(element, str) else element
        try:
            return base64.b64decode(raw, validate=True)
        except binascii.Error:
            return raw
