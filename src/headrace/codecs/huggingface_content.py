"""The content types of MLServer's Hugging Face runtime.

| content type | the input becomes |
|---|---|
| `hg_json` `hg_jsonlist` | a JSON value; a list of them, one per element |
| `pillow_image` `image` | a list of images |
| `audio` | a list of sounds, each a dict of its `array` and `sampling_rate` |
| `nplist` | a list of arrays, one per row |
| `raw` | the only element: a number, a boolean or text |

In JSON a text that begins with `data:image/` stands for an image.
"""

from __future__ import annotations

from typing import Any, Callable

from headrace.codecs import array, audio, bytes_elements, image, jsontext
from headrace.errors import InvalidInput, shorten
from headrace.protocol.place import place
from headrace.protocol.tensor import Tensor, pack_bytes


def json_value(tensor: Tensor) -> Any:
    """The JSON value of the only element, with images in place of their texts.

    Raises:
        InvalidInput: there is not one element, or it is not JSON.
    """
    values = json_list(tensor)
    if len(values) != 1:
        raise InvalidInput(
            f"input '{shorten(tensor.name)}': content type 'hg_json' takes one element, "
            f"got {len(values)}; 'hg_jsonlist' takes several"
        )
    return values[0]


def json_list(tensor: Tensor) -> list[Any]:
    """The JSON values of the elements, with images in place of their texts."""
    plain = Tensor(tensor.name, tensor.datatype, tensor.shape, tensor.data)
    values = bytes_elements.decode(plain, "pd_json")
    where = f"input '{shorten(tensor.name)}'"
    return [
        _with_images(value, place(where, index, tensor.shape)) for index, value in enumerate(values)
    ]


def encode_rows(values: list[Any], name: str) -> Tensor:
    """An `hg_jsonlist` tensor of one JSON text per value; images become texts.

    Raises:
        BadModelOutput: a value has no JSON form.
    """
    where = f"output '{shorten(name)}'"
    texts = [jsontext.dumps(_without_images(value), where) for value in values]
    return Tensor(name, "BYTES", [len(texts)], pack_bytes(texts), {"content_type": "hg_jsonlist"})


def _rows(tensor: Tensor) -> list[Any]:
    if not tensor.shape:
        raise InvalidInput(f"input '{shorten(tensor.name)}': 'nplist' needs a first dimension")
    plain = Tensor(tensor.name, tensor.datatype, tensor.shape, tensor.data)
    return list(array.array_of(plain, writable=True))


def _scalar(tensor: Tensor) -> Any:
    plain = Tensor(tensor.name, tensor.datatype, tensor.shape, tensor.data)
    values = array.array_of(plain).ravel().tolist()
    if len(values) != 1:
        raise InvalidInput(
            f"input '{shorten(tensor.name)}': content type 'raw' takes one element, "
            f"got {len(values)}"
        )
    return values[0]


def _with_images(value: Any, where: str) -> Any:
    if isinstance(value, str):
        return image.from_text(value, where) if value.startswith(image.PREFIX) else value
    if isinstance(value, list):
        return [_with_images(item, where) for item in value]
    if isinstance(value, dict):
        return {key: _with_images(item, where) for key, item in value.items()}
    return value


def _without_images(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_images(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_images(item) for item in value]
    return image.to_text(value) if image.is_image(value) else value


DECODERS: dict[str, Callable[[Tensor], Any]] = {
    "hg_json": json_value,
    "hg_jsonlist": json_list,
    "nplist": _rows,
    "raw": _scalar,
    **dict.fromkeys(image.KINDS, image.decode),
    audio.KIND: audio.decode,
}
