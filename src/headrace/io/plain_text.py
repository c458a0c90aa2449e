"""Text in UTF-8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.errors import BadModelOutput, InvalidInput
from headrace.io.descriptor import (
    BODY,
    Descriptor,
    Encoded,
    check_media_type,
    is_json,
    kind_of,
    media_type_of,
    refuse_output,
    text_of,
)


class Text(Descriptor):
    """The whole body as a `str`; an empty body is an empty text."""

    content_types = (
        "text/*",
        "application/json",
        "application/xml",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
    )
    content_type = "text/plain; charset=utf-8"

    @classmethod
    def from_sample(cls, sample: str) -> Text:
        """A descriptor with an example.

        Raises:
            TypeError: the sample is not a `str`.
        """
        if not isinstance(sample, str):
            raise TypeError(f"expected a str as the sample, got {type(sample).__name__}")
        made = cls()
        made.example = sample
        return made

    def decode(self, body: bytes, headers: Mapping[str, str], where: str = BODY) -> Any:
        """The text of a body, whatever it means; JSON is not read."""
        media_type = media_type_of(headers)
        if media_type and not is_json(media_type):
            check_media_type(media_type, self.content_types, where)
        return text_of(body, where)

    def decode_json(self, value: Any, where: str) -> Any:
        """A JSON string."""
        if not isinstance(value, str):
            raise InvalidInput(f"{where}: expected string, got {kind_of(value)}")
        return value

    def encode(self, value: Any) -> Encoded:
        """A `str` as UTF-8."""
        if not isinstance(value, str):
            raise refuse_output("a str", value)
        try:
            return Encoded(value.encode("utf-8"), self.content_type)
        except UnicodeEncodeError as error:
            raise BadModelOutput("the answer holds half of a surrogate pair") from error

    def openapi_schema(self) -> dict[str, Any]:
        """A string."""
        return {"type": "string"}

    def openapi_request(self) -> dict[str, Any]:
        """A body of plain text."""
        return {"required": True, "content": {"text/plain": self._openapi_media("text/plain")}}

    def _openapi_media(self, media_type: str) -> dict[str, Any]:
        media: dict[str, Any] = {"schema": self.openapi_schema()}
        if self.example is not None:
            media["example"] = self.example
        return media
