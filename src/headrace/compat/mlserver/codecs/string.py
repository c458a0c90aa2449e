"""Text."""

from __future__ import annotations

from typing import Any

from headrace.compat.mlserver.codecs.base import register_input_codec, register_request_codec
from headrace.compat.mlserver.codecs.element_codec import CellsCodec
from headrace.compat.mlserver.codecs.errors import CodecError
from headrace.compat.mlserver.codecs.lists import is_list_of
from headrace.compat.mlserver.codecs.utils import SingleInputRequestCodec


def encode_str(elem: str) -> bytes:
    """Text as UTF-8."""
    return elem.encode("utf-8")


def decode_str(encoded: Any, str_codec: str = "utf-8") -> Any:
    """Bytes as text; text and None as they are, anything else as empty text.

    Raises:
        CodecError: the bytes are not text.
    """
    if isinstance(encoded, (bytes, bytearray)):
        try:
            return encoded.decode(str_codec)
        except UnicodeDecodeError as error:
            raise CodecError(f"an element is not {str_codec} text") from error
    return encoded if encoded is None or isinstance(encoded, str) else ""


@register_input_codec
class StringCodec(CellsCodec):
    """A list of text."""

    ContentType = "str"
    TypeHint = list[str]

    @classmethod
    def can_encode(cls, payload: Any) -> bool:
        return is_list_of(payload, str)

    @classmethod
    def encode_element(cls, element: str) -> bytes:
        return encode_str(element)

    @classmethod
    def decode_element(cls, element: Any) -> Any:
        return decode_str(element)


@register_request_codec
class StringRequestCodec(SingleInputRequestCodec):
    """A request of one list of text."""

    InputCodec = StringCodec
    ContentType = StringCodec.ContentType
    TypeHint = list[str]
