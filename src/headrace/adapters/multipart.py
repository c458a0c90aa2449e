"""The payload inside a `multipart/form-data` body."""

from __future__ import annotations

from headrace.errors import InvalidInput
from headrace.protocol.multipart_form import parts


def payload(body: bytes, content_type: str) -> tuple[bytes, str | None]:
    """The content of a form's only file, or of its only part, and that part's own media type.

    A field that is not a file and names no type is plain text (RFC 7578 4.4).

    Raises:
        InvalidInput: the form is damaged, has several files, or has no file and not exactly one
            part.
        UnsupportedMedia: the part is in a transfer encoding such as base64.
    """
    found = parts(body, content_type)
    files = [part for part in found if part.is_file]
    if len(files) > 1:
        raise InvalidInput(f"the form holds {len(files)} files, expected exactly one")
    if not files and len(found) != 1:
        raise InvalidInput(f"the form holds no file and {len(found)} fields, expected one file")
    (part,) = files or found
    return part.content(), part.media_type or (None if part.is_file else "text/plain")
