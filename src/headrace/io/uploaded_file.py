"""Files: the whole body, or the only file of a form."""

from __future__ import annotations

import io
import mimetypes
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, ClassVar
from urllib.parse import quote

from headrace.errors import InvalidInput, MissingDependency
from headrace.io.descriptor import (
    BODY,
    OCTETS,
    Descriptor,
    Encoded,
    check_media_type,
    media_type_of,
    refuse_output,
    text_of,
)

FORM = "multipart/form-data"
KINDS = ("binaryio", "textio", "bytes", "path")


class Upload(io.BytesIO):
    """A file that a client sent: its bytes, with the `name` and `content_type` that it gave."""

    def __init__(self, data: bytes, name: str, content_type: str) -> None:
        super().__init__(data)
        self.name, self.content_type = name, content_type


class File(Descriptor):
    """A file of any kind, or of `mime_type` only, which is also the type of answers.

    `kind` is what the endpoint gets: "binaryio" an open binary file with a `name`, "textio" an
    open text file, "bytes" its content, and "path" a `pathlib.Path` of a temporary file, which
    exists until the endpoint returns. Answers are bytes, an open file or a `pathlib.Path`.

    Raises:
        ValueError: `kind` is none of these.
    """

    is_binary: ClassVar[bool] = True

    def __init__(self, kind: str = "binaryio", mime_type: str | None = None) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
        self.kind, self.mime_type = kind, mime_type.lower() if mime_type else None
        self.content_types = ("*/*",) if mime_type is None else (mime_type.lower(), FORM)
        self.content_type = self.mime_type or OCTETS

    @classmethod
    def from_sample(cls, sample: Any, kind: str = "binaryio", mime_type: str | None = None) -> File:
        """A descriptor for files like `sample`, a path, bytes or an open file.

        The type is guessed from the ending of the file's name where none is given.
        """
        name = sample if isinstance(sample, (str, os.PathLike)) else getattr(sample, "name", "")
        guessed, _ = mimetypes.guess_type(str(name))
        return cls(kind, mime_type or guessed)

    def decode(self, body: bytes, headers: Mapping[str, str], where: str = BODY) -> Any:
        """The file in a body."""
        media_type = media_type_of(headers, is_text=self.kind == "textio")
        name = headers.get("x-filename", "")
        if media_type == FORM:
            body, media_type, name = file_of_form(body, headers, where, self._takes)
        elif self.mime_type is not None:
            check_media_type(media_type, (self.mime_type,), where)
        if self.kind == "bytes":
            return body
        if self.kind == "textio":
            return io.StringIO(text_of(body, where))
        if self.kind == "path":
            return _stored(body, name)
        # Some clients send their whole path.
        return Upload(body, re.split(r"[/\\]", name)[-1] or "body", media_type or OCTETS)

    def _takes(self, media_type: str) -> bool:
        return self.mime_type in (None, media_type)

    def release(self, value: Any) -> None:
        """Remove the temporary file of a path."""
        if self.kind == "path":
            Path(value).unlink(missing_ok=True)
            Path(value).parent.rmdir()

    def encode(self, value: Any) -> Encoded:
        """The content of bytes, an open file or a path, with the path's name and type."""
        if isinstance(value, Path):
            guessed, _ = mimetypes.guess_type(value.name)
            headers = {"content-disposition": attachment(value.name)}
            return Encoded(value.read_bytes(), self.mime_type or guessed or OCTETS, headers)
        if hasattr(value, "read"):
            value = value.read()
        if isinstance(value, str):
            value = value.encode("utf-8")
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise refuse_output("bytes, an open file or a pathlib.Path", value)
        return Encoded(bytes(value), self.content_type)

    def openapi_schema(self) -> dict[str, Any]:
        """Bytes."""
        return {"type": "string", "format": "binary"}

    def _openapi_media(self, media_type: str) -> dict[str, Any]:
        if media_type != FORM:
            return {"schema": self.openapi_schema()}
        return {"schema": {"type": "object", "properties": {"file": self.openapi_schema()}}}

    def __repr__(self) -> str:
        return f"File({self.kind!r}, {self.mime_type!r})"


def file_of_form(
    body: bytes, headers: Mapping[str, str], where: str, takes: Callable[[str], bool]
) -> tuple[bytes, str, str]:
    """Content, media type and file name of the only file of a form that `takes` accepts.

    Raises:
        InvalidInput: the form is damaged, holds no such file, or several.
    """
    files = [part for part in form_parts(body, headers) if part.is_file]
    typed = [
        (part, (part.media_type or OCTETS).partition(";")[0].strip().lower()) for part in files
    ]
    found = [(part, media_type) for part, media_type in typed if takes(media_type)]
    if len(found) != 1:
        types = ", ".join(media_type for _, media_type in typed) or "none"
        raise InvalidInput(
            f"{where}: expected a form with one file that is accepted, got {len(found)} of "
            f"{len(files)} files; their types: {types[:200]}"
        )
    ((part, media_type),) = found
    return part.content(), media_type, part.filename or ""


def form_parts(body: bytes, headers: Mapping[str, str]) -> list[Any]:
    """The parts of a form.

    Raises:
        InvalidInput: the form is damaged.
        MissingDependency: python-multipart is not installed.
    """
    try:
        from headrace.protocol.multipart_form import parts
    except ModuleNotFoundError:
        raise MissingDependency(
            "forms need python-multipart: pip install python-multipart"
        ) from None
    return parts(body, headers.get("content-type", ""))


def attachment(name: str) -> str:
    """The Content-Disposition of a file to save (RFC 6266)."""
    quoted = quote(name)
    return (
        f'attachment; filename="{name}"'
        if quoted == name
        else (f"attachment; filename*=utf-8''{quoted}")
    )


def _stored(body: bytes, name: str) -> Path:
    """A temporary file with this content, whose name keeps only the ending that the client gave."""
    ending = Path(name).suffix
    safe = ending if ending[1:].isalnum() and ending.isascii() and len(ending) < 12 else ""
    path = Path(tempfile.mkdtemp(prefix="headrace-")) / f"upload{safe}"
    path.write_bytes(body)
    return path
