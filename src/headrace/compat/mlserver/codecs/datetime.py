"""Times in ISO 8601."""

from __future__ import annotations

import datetime
from typing import Any, Union

from headrace.codecs.bytes_elements import parse_time
from headrace.compat.mlserver.codecs.base import register_input_codec
from headrace.compat.mlserver.codecs.element_codec import CellsCodec
from headrace.compat.mlserver.codecs.errors import CodecError
from headrace.compat.mlserver.codecs.lists import is_list_of
from headrace.compat.mlserver.codecs.string import decode_str


@register_input_codec
class DatetimeCodec(CellsCodec):
    """A list of times."""

    ContentType = "datetime"
    TypeHint = list[Union[str, datetime.datetime]]

    @classmethod
    def can_encode(cls, payload: Any) -> bool:
        return is_list_of(payload, datetime.datetime)

    @classmethod
    def encode_element(cls, element: Any) -> bytes:
        text: str = element if isinstance(element, str) else element.isoformat()
        return text.encode()

    @classmethod
    def decode_element(cls, element: Any) -> datetime.datetime:
        try:
            return parse_time(decode_str(element))
        except ValueError as error:
            raise CodecError("an element is not an ISO 8601 time") from error
