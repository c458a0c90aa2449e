"""The parts of a `multipart/form-data` body (RFC 7578)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from headrace.errors import InvalidInput, UnsupportedMedia

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# What is wrong with a request is reported to its sender, not to the log.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

# A form holds one payload and perhaps a few fields; each costs the parser some Python calls.
MOST_PARTS = 100
# Bytes that the parser gets at once: it searches them while no other thread may run.
STEP = 256 * 1024
# Of the transfer encodings those that leave the bytes as they are (RFC 2045 6.2).
UNENCODED = (b"7bit", b"8bit", b"binary")


@dataclass
class Part:
    """One part of a form: its header fields by lower-case name, and its content."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)

    def _option(self, name: bytes) -> str | None:
        _, options = parse_options_header(self.headers.get(b"content-disposition"))
        return options[name].decode("utf-8", "replace") if name in options else None

    @property
    def is_file(self) -> bool:
        return self.filename is not None

    @property
    def name(self) -> str | None:
        return self._option(b"name")

    @property
    def filename(self) -> str | None:
        return self._option(b"filename")

    @property
    def media_type(self) -> str | None:
        """The type that the part itself names."""
        own = self.headers.get(b"content-type")
        return None if own is None else own.decode("latin-1")

    def content(self) -> bytes:
        """The bytes of the part.

        Raises:
            UnsupportedMedia: the part is in a transfer encoding such as base64.
        """
        encoding = self.headers.get(b"content-transfer-encoding", b"binary")
        if encoding.lower() not in UNENCODED:
            raise UnsupportedMedia(
                "the form's part has a Content-Transfer-Encoding; send it unencoded"
            )
        return b"".join(self.pieces)


def parts(body: bytes, content_type: str) -> list[Part]:
    """All parts of a form, in order; `content_type` holds its boundary.

    Raises:
        InvalidInput: the form is damaged, or has more than `MOST_PARTS` parts.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidInput("Content-Type: multipart/form-data needs its boundary parameter")
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        for start in range(0, len(body), STEP):
            parser.write(body[start : start + STEP])
        parser.finalize()
    except FormParserError:
        raise InvalidInput("the body is not a valid multipart form") from None
    if not reader.ended:
        raise InvalidInput("the multipart form ends before its last boundary")
    return reader.parts


class _Reader:
    """Collects the parts of a form from the parser's callbacks."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._name = self._value = b""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._on_data,
            "on_header_field": self._on_name,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == MOST_PARTS:
            raise InvalidInput(f"the form has more than {MOST_PARTS} parts")
        self.parts.append(Part())

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].pieces.append(data[start:end])

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self.parts[-1].headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _end(self) -> None:
        self.ended = True
