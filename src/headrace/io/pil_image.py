"""Images, as Pillow's."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from headrace.codecs import image as image_codec
from headrace.errors import BadModelOutput, InvalidInput, MissingDependency, UnsupportedMedia
from headrace.io.descriptor import (
    BODY,
    OCTETS,
    Descriptor,
    Encoded,
    check_media_type,
    media_type_of,
    refuse_output,
)
from headrace.io.uploaded_file import FORM, attachment, file_of_form

FORMATS = {f"image/{name.lower()}": name for name in image_codec.FORMATS}
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "RGBX")


class Image(Descriptor):
    """An image: the endpoint gets a Pillow image, in the mode that its file has.

    Requests are an image file of one of `allowed_mime_types`, by default of all that are read, or
    a form with one. Answers are Pillow images or arrays, sent as `mime_type`; `pilmode` is what an
    array's or an image's mode becomes where the format cannot hold its own.

    Raises:
        ValueError: a media type or mode is none that is supported.
        MissingDependency: Pillow is not installed.
    """

    is_binary: ClassVar[bool] = True

    def __init__(
        self,
        pilmode: str | None = "RGB",
        mime_type: str = "image/jpeg",
        allowed_mime_types: Iterable[str] | None = None,
    ) -> None:
        _pillow()
        if pilmode is not None and pilmode not in _MODES:
            raise ValueError(f"pilmode: expected one of {', '.join(_MODES)}, got {pilmode!r}")
        allowed = FORMATS if allowed_mime_types is None else allowed_mime_types
        self.allowed = tuple(each.lower() for each in allowed)
        for each in (*self.allowed, mime_type.lower()):
            if each not in FORMATS:
                raise ValueError(f"expected one of {', '.join(FORMATS)}, got {each!r}")
        self.pilmode, self.content_type = pilmode, mime_type.lower()
        self.content_types = (*self.allowed, OCTETS, FORM)

    @classmethod
    def from_sample(
        cls,
        sample: Any,
        pilmode: str | None = "RGB",
        mime_type: str | None = None,
        allowed_mime_types: Iterable[str] | None = None,
    ) -> Image:
        """A descriptor for images like `sample`: a path, bytes, a Pillow image or an array.

        Its format is the `mime_type` where none is given.
        """
        if mime_type is None and not hasattr(sample, "shape"):
            image = sample
            if not image_codec.is_image(sample):
                source = io.BytesIO(sample) if isinstance(sample, bytes) else sample
                image = _pillow().open(source)
            mime_type = f"image/{image.format.lower()}" if image.format else None
        return cls(pilmode, mime_type or "image/jpeg", allowed_mime_types)

    def decode(self, body: bytes, headers: Mapping[str, str], where: str = BODY) -> Any:
        """The image in a body, unpacked."""
        media_type = _right(media_type_of(headers, is_text=False))
        if media_type == FORM:
            body, media_type, _ = file_of_form(body, headers, where, self._takes)
        elif media_type:
            check_media_type(media_type, self.content_types, where)
        if not body:
            raise InvalidInput(f"{where} is empty, expected an image file")
        image = image_codec.opened(body, where)
        found = f"image/{image.format.lower()}"
        if found not in self.allowed:
            raise UnsupportedMedia(
                f"{where}: expected {' or '.join(self.allowed)}, got a file of {found}"
            )
        return image

    def _takes(self, media_type: str) -> bool:
        return _right(media_type) in self.allowed or media_type == OCTETS

    def encode(self, value: Any) -> Encoded:
        """A Pillow image or an array of uint8 as an image file."""
        image = value if image_codec.is_image(value) else self._of_array(value)
        name = FORMATS[self.content_type]
        buffer = io.BytesIO()
        try:
            try:
                image.save(buffer, format=name)
            except OSError:
                # JPEG has neither transparency nor palettes.
                buffer = io.BytesIO()
                image.convert(self.pilmode or "RGB").save(buffer, format=name)
        except (OSError, ValueError) as error:
            raise BadModelOutput(f"the image cannot be written as {self.content_type}") from error
        headers = {"content-disposition": attachment(f"output.{name.lower()}")}
        return Encoded(buffer.getvalue(), self.content_type, headers)

    def _of_array(self, value: Any) -> Any:
        if not hasattr(value, "__array_interface__"):
            raise refuse_output("a Pillow image or a numpy array", value)
        try:
            image = _pillow().fromarray(value)
        except (TypeError, ValueError) as error:
            raise BadModelOutput(
                f"an array of {value.dtype} and shape {value.shape} is not an image"
            ) from error
        if self.pilmode is not None and image.mode != self.pilmode:
            image = image.convert(self.pilmode)
        return image

    def openapi_schema(self) -> dict[str, Any]:
        """Bytes."""
        return {"type": "string", "format": "binary"}

    def _openapi_media(self, media_type: str) -> dict[str, Any]:
        if media_type != FORM:
            return {"schema": self.openapi_schema()}
        return {"schema": {"type": "object", "properties": {"image": self.openapi_schema()}}}

    def __repr__(self) -> str:
        return f"Image({self.pilmode!r}, {self.content_type!r})"


def _right(media_type: str) -> str:
    # Many clients name the type by the ending of the file.
    return "image/jpeg" if media_type == "image/jpg" else media_type


def _pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise MissingDependency("Image needs Pillow: pip install pillow") from None
    return Image
