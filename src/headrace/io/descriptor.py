"""What all descriptors share: one converts a body to a Python value, and a value to a body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from headrace.errors import BadModelOutput, InvalidInput, UnsupportedMedia, shorten
from headrace.protocol.media_types import essence, takes
from headrace.protocol.short_keys import remember_short

BODY = "the body"
OCTETS = "application/octet-stream"
# What clients send if nobody names a type: curl sends the first, fetch of a browser the second,
# and curl the third with a file in a form whose ending it does not know, such as `.json`.
UNNAMED = ("application/x-www-form-urlencoded", "text/plain", OCTETS)


class Encoded(NamedTuple):
    """The body of an answer, its media type, and what it adds to the header fields."""

    body: bytes
    content_type: str
    headers: dict[str, str] = {}


class Descriptor:
    """Describes the input or the output of an endpoint.

    `content_types` are the media types that `decode` takes, `image/*` for a whole family;
    `content_type` is that of what `encode` makes. Where `by_name` is true, `decode` returns a dict
    of keyword arguments and `encode` takes a dict.
    """

    content_types: tuple[str, ...] = ()
    content_type: str = ""
    by_name: ClassVar[bool] = False
    # Whether the value is sent as a part of a form rather than as a member of a JSON object.
    is_binary: ClassVar[bool] = False
    # A value as it looks in JSON; None for none.
    example: Any = None

    def decode(self, body: bytes, headers: Mapping[str, str], where: str = BODY) -> Any:
        """The value in a body; `headers` are by lower-case name, `where` begins messages.

        Raises:
            InvalidInput: the body is not what the descriptor describes.
            UnsupportedMedia: its media type is none of `content_types`.
            TooLarge: it would unpack to more than the limit of its format.
        """
        raise NotImplementedError

    def encode(self, value: Any) -> Encoded:
        """The body for a value that the endpoint returned.

        Raises:
            BadModelOutput: the value is not what the descriptor describes.
        """
        raise NotImplementedError

    def decode_json(self, value: Any, where: str) -> Any:
        """The value from what a JSON text holds for it, as a member of an object for example."""
        raise NotImplementedError

    def release(self, value: Any) -> None:
        """Give back what a decoded value holds outside memory, once the endpoint has returned."""

    def openapi_schema(self) -> dict[str, Any]:
        """The JSON schema of the value."""
        return {}

    def openapi_components(self) -> dict[str, Any]:
        """The schemas that `openapi_schema` refers to, by their name in `#/components/schemas`."""
        return {}

    def openapi_request(self) -> dict[str, Any]:
        """The request body object of OpenAPI 3.1, with the sample as its example."""
        content = {each: self._openapi_media(each) for each in self.content_types}
        return {"required": True, "content": content}

    def openapi_response(self) -> dict[str, Any]:
        """The response object of OpenAPI 3.1 for an answer with status 200."""
        content = {essence(self.content_type): self._openapi_media(self.content_type)}
        return {"description": "The answer", "content": content}

    def _openapi_media(self, media_type: str) -> dict[str, Any]:
        if not is_json(media_type):
            return {"schema": {"type": "string", "format": "binary"}}
        media: dict[str, Any] = {"schema": self.openapi_schema()}
        if self.example is not None:
            media["example"] = self.example
        return media

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def is_json(media_type: str) -> bool:
    """Whether a media type is JSON's own, or one built on it such as `application/geo+json`."""
    return essence(media_type) in ("application/json", "text/json") or essence(media_type).endswith(
        "+json"
    )


def media_type_of(headers: Mapping[str, str], is_text: bool = True) -> str:
    """The media type of a body in lower case, without parameters; empty if none is named.

    Raises:
        UnsupportedMedia: it `is_text`, in an encoding other than UTF-8.
    """
    whole = headers.get("content-type", "")
    name, semicolon, parameters = whole.partition(";")
    if semicolon and is_text:
        for parameter in parameters.split(";"):
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "charset":
                charset = value.strip().strip('"').lower()
                if charset not in ("utf-8", "utf8", "us-ascii"):
                    raise UnsupportedMedia(f"charset {shorten(charset)} is not read; send UTF-8")
    return name.strip().lower()


@remember_short(64)
def may_be_json(content_type: str) -> bool:
    """Whether a body is JSON by its Content-Type, or may be as that says nothing of it. Hot.

    Raises:
        UnsupportedMedia: its text is in an encoding other than UTF-8.
    """
    media_type = media_type_of({"content-type": content_type})
    return not media_type or is_json(media_type) or media_type in UNNAMED


def check_media_type(media_type: str, accepted: tuple[str, ...], where: str) -> None:
    """Refuse a media type that no member of `accepted` matches.

    Raises:
        UnsupportedMedia: the message lists what is accepted.
    """
    if not any(takes(each, media_type) for each in accepted):
        got = f"'{shorten(media_type)}'" if media_type else "none"
        raise UnsupportedMedia(f"{where}: expected Content-Type {' or '.join(accepted)}, got {got}")


def text_of(body: bytes, where: str) -> str:
    """A body as text.

    Raises:
        InvalidInput: it is not UTF-8; the message names the first byte that is not.
    """
    try:
        return str(body, "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{where} is not valid UTF-8 at byte {error.start}") from None


def kind_of(value: Any) -> str:
    """What JSON calls the type of a value that it held."""
    if value is None:
        return "null"
    kinds = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"))
    for cls, word in (*kinds, (dict, "object"), (list, "array")):
        if isinstance(value, cls):
            return word
    return shorten(type(value).__name__)


def refuse_output(expected: str, value: Any) -> BadModelOutput:
    """The error for a returned value of the wrong type."""
    return BadModelOutput(
        f"the endpoint returned {shorten(type(value).__name__)}, expected {expected}"
    )
