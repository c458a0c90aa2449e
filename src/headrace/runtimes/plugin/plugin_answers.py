"""What a plugin returned, as bytes and their media type; docs/decisions/0014 gives the reasons."""

from __future__ import annotations

import io
import json
from typing import Any

from headrace.codecs import image, jsontext
from headrace.errors import BadModelOutput, shorten

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
BINARY = "application/octet-stream"
PNG = "image/png"


def encode(answer: Any, declared: str | None, model: str) -> tuple[bytes, str]:
    """The bytes to send and their media type: `declared` if given, else derived from the type.

    Raises:
        BadModelOutput: a value of that type cannot be sent; the message names the type.
    """
    if isinstance(answer, str):
        return _text(answer, model), declared or (JSON if _is_json(answer) else TEXT)
    if isinstance(answer, (bytes, bytearray, memoryview)):
        return bytes(answer), declared or BINARY
    if image.is_image(answer):
        return _image(answer, declared or PNG, model), declared or PNG
    if answer is None:
        raise BadModelOutput(f"the plugin of model '{model}' returned None, not an answer")
    try:
        where = f"the plugin of model '{model}' returned {shorten(type(answer).__name__)}"
        return jsontext.dumps(answer, where), declared or JSON
    except BadModelOutput as error:
        raise BadModelOutput(
            f"{error.message}; expected text, bytes, an image, or what JSON can hold"
        ) from error


def _text(answer: str, model: str) -> bytes:
    try:
        return answer.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadModelOutput(
            f"the plugin of model '{model}' returned text that UTF-8 cannot hold"
        ) from error


def _is_json(text: str) -> bool:
    """Whether text is a JSON object or array, such as `json.dumps` writes; plain words are not."""
    if text[:1] not in ("{", "["):
        return False
    try:
        # json.dumps writes NaN by default, which is not JSON and must not be declared as such.
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _image(answer: Any, media_type: str, model: str) -> bytes:
    from PIL import Image

    Image.init()
    wanted = media_type.partition(";")[0].strip().lower()
    form = next((form for form, mime in Image.MIME.items() if mime == wanted), None)
    if form is None or form not in Image.SAVE:
        raise BadModelOutput(
            f"the plugin of model '{model}' returned an image, which cannot be written as "
            f"{shorten(wanted)}"
        )
    buffer = io.BytesIO()
    try:
        answer.save(buffer, format=form)
    except (OSError, ValueError) as error:
        raise BadModelOutput(
            f"the plugin of model '{model}' returned an image of mode {shorten(answer.mode)}, "
            f"which cannot be written as {shorten(wanted)}"
        ) from error
    return buffer.getvalue()
