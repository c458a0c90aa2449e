"""The payload inside a `multipart/form-data` body (RFC 7578)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from headrace.errors import InvalidInput, UnsupportedMedia

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# What is wrong with a request is reported to its sender, not in the log.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

# A form holds one payload and perhaps a few fields; each costs the parser some Python calls.
MOST_PARTS = 100
# The transfer encodings that leave the bytes as they are (RFC 2045 6.2).
UNENCODED = (b"7bit", b"8bit", b"binary")


@dataclass
class Part:
    """One part of a form: its header fields by lower-case name, and its content."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)

    @property
    def is_file(self) -> bool:
        _, options = parse_options_header(self.headers.get(b"content-disposition"))
        return b"filename" in options


def payload(body: bytes, content_type: str) -> tuple[bytes, str | None]:
    """The content of a form's only file, or of its only part, and that part's own media type.

    A field that is not a file and names no type is plain text (RFC 7578 4.4).

    Raises:
        InvalidInput: the form is damaged, has several files, or has no file and not exactly one
            part.
        UnsupportedMedia: the part is in a transfer encoding such as base64.
    """
    parts = _parts(body, content_type)
    files = [part for part in parts if part.is_file]
    if len(files) > 1:
        raise InvalidInput(f"the form holds {len(files)} files, expected exactly one")
    if not files and len(parts) != 1:
        raise InvalidInput(f"the form holds no file and {len(parts)} fields, expected one file")
    (found,) = files or parts
    encoding = found.headers.get(b"content-transfer-encoding", b"binary")
    if encoding.lower() not in UNENCODED:
        raise UnsupportedMedia("the form's part has a Content-Transfer-Encoding; send it unencoded")
    own = found.headers.get(b"content-type", None if found.is_file else b"text/plain")
    return b"".join(found.pieces), None if own is None else own.decode("latin-1")


def _parts(body: bytes, content_type: str) -> list[Part]:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidInput("Content-Type: multipart/form-data needs its boundary parameter")
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
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
