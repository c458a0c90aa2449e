"""Images in BYTES tensors: the base64 text of an image file, or the file itself."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

from headrace.codecs import bytes_elements
from headrace.errors import BadModelOutput, InvalidInput, TooLarge, UnsupportedMedia, shorten
from headrace.protocol.place import place
from headrace.protocol.tensor import Tensor

KINDS = ("pillow_image", "image")
PREFIX = "data:image/"
MAX_PIXELS = 50_000_000

# Formats that Pillow reads without starting another program.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def decode(tensor: Tensor) -> list[Any]:
    """The elements as Pillow images.

    Raises:
        InvalidInput: an element is not an image in one of `FORMATS`.
        TooLarge: an image has more than `MAX_PIXELS` pixels.
        UnsupportedMedia: Pillow is not installed where the model runs.
    """
    where = f"input '{shorten(tensor.name)}'"
    return [
        opened(bytes_elements.file_of(element), place(where, index, tensor.shape))
        for index, element in enumerate(bytes_elements.raw(tensor))
    ]


def from_text(text: str, where: str) -> Any:
    """The image of a `data:image/...;base64,` text.

    Raises:
        InvalidInput: it is not such an image; the message begins with `where`.
    """
    data = text.partition(",")[2]
    try:
        return opened(base64.b64decode(data, validate=True), where)
    except binascii.Error as error:
        raise InvalidInput(f"{where} is not the base64 of an image file") from error


def to_text(image: Any) -> str:
    """The image as `data:image/png;base64,...`, which loses nothing."""
    buffer = io.BytesIO()
    try:
        image.save(buffer, format="PNG")
    except OSError as error:
        raise BadModelOutput(f"an image of mode {shorten(image.mode)} cannot be sent") from error
    return f"{PREFIX}png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def is_image(value: Any) -> bool:
    """Whether the value is a Pillow image; does not import Pillow."""
    return any(cls.__module__ == "PIL.Image" for cls in type(value).__mro__)


def opened(file: bytes, where: str) -> Any:
    """The image in the bytes of an image file, read whole."""
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise UnsupportedMedia(
            "the model's environment has no Pillow to read images: pip install pillow"
        ) from error
    try:
        image = Image.open(io.BytesIO(file), formats=FORMATS)
        # The size is in the header of the file; the pixels are read later.
        if image.width * image.height > MAX_PIXELS:
            raise TooLarge(f"{where}: {image.width} x {image.height} is over {MAX_PIXELS} pixels")
        image.load()
    except TooLarge:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow's own limit, which is checked first, is higher.
        raise TooLarge(f"{where}: the image is over {MAX_PIXELS} pixels") from error
    except Exception as error:
        raise InvalidInput(f"{where} is not an image, one of {', '.join(FORMATS)}") from error
    return image
