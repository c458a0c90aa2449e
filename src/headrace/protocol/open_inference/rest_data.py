"""The `data` member of a JSON tensor: JSON array to raw bytes, and raw bytes to JSON values.

Small arrays are decoded by a typed decoder and packed; large ones are packed without a Python
object per number, unless they hold something that only the slow path can handle.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from itertools import chain
from math import nan, prod
from typing import Annotated, Any

import msgspec
import numpy as np

from headrace.errors import BadModelOutput, InvalidInput, shorten
from headrace.protocol.bfloat16 import from_bfloat16
from headrace.protocol.datatypes import DATATYPES, Datatype
from headrace.protocol.open_inference.data_faults import (
    label,
    mistake,
    not_boolean,
    other_nesting,
    out_of_range,
)
from headrace.protocol.open_inference.large_numbers import (
    EXACT,
    NOT_STRUCTURE,
    is_skeleton,
    narrowed,
    pack_numbers,
    wrong_count,
)
from headrace.protocol.tensor import Buffer, Tensor, pack_bytes, unpack_bytes

# Below this many characters, the typed decoder is faster than setting up the large path.
LARGE = 16_384

# Texts that are packed in one go.
_PACKED = 16 * 1024

_LONE_TEXT = msgspec.json.Decoder(
    str | Annotated[list[str], msgspec.Meta(min_length=1, max_length=1)]
)

_WHITESPACE = b" \t\r\n"
_OPEN = ord("[")
_SPACE = ord(" ")
_HOLLOW = re.compile(rb"\[[ \t\r\n]*\]")


def pack_json(
    raw: bytes | msgspec.Raw, kind: Datatype, shape: Sequence[int], count: int, name: str
) -> Buffer:
    """Turn the JSON array of a tensor, flat or nested as `shape`, into its raw bytes.

    A number out of the range of `kind` is refused, and an integer stays exact; a decimal number
    becomes the nearest one of its type. `null` in a float tensor is NaN, a whole number written
    `1.0` is an integer. `raw` is one JSON value whose syntax has been
    checked, `count` the number of elements in `shape`.

    Raises:
        InvalidInput: the array does not fit shape or datatype; the message names the input.
    """
    text = bytes(raw)
    if text[0] != _OPEN:
        if shape or text.startswith((b"{", b"null")):
            raise InvalidInput(f"{label(name)}: data must be an array")
        text = b"[" + text + b"]"
    form = _FORMS[kind.name]
    if not count:
        return _pack_empty(text, shape, name)
    if len(text) >= LARGE and form.by_buffer:
        packed = pack_numbers(text, 0, len(text), kind, shape, count, name)
        if packed is not None:
            return packed
    # Only an array of arrays, or one with a space after its bracket, needs its depth counted.
    depth = 1 if text[1] > _SPACE and text[1] != _OPEN else _depth(text, shape, name)
    if depth > 1 and len(text) >= LARGE and kind.itemsize:
        text, depth = _unnest(text, kind, shape, name), 1
    if len(text) >= LARGE and form is _BOOL_FORM:
        packed = _slices_of_booleans(text, 0, len(text), count)
        if packed is not None:
            return packed
    try:
        values = form.decode[depth](text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        values = _decode_again(text, kind, depth, shape, name)
    if depth > 1:
        values = _flatten(values, shape, name)
    if len(values) != count:
        raise wrong_count(len(values), shape, count, name)
    return form.pack(values, kind, shape, name)


def pack_array(
    text: bytes,
    place: tuple[int, int],
    kind: Datatype,
    shape: Sequence[int],
    count: int,
    name: str,
) -> Buffer | None:
    """As `pack_json`, for a large array `text[start:end]` whose syntax has not been checked.

    None where `pack_json` has to decide.

    Raises:
        InvalidInput: the array does not fit shape or datatype; the message names the input.
    """
    form = _FORMS[kind.name]
    if count and form is _BOOL_FORM:
        return _slices_of_booleans(text, *place, count)
    if not count or not form.by_buffer:
        return None
    return pack_numbers(text, *place, kind, shape, count, name)


def pack_lone_text(raw: bytes | msgspec.Raw, shape: Sequence[int], name: str) -> Buffer | None:
    """Pack a lone text whose length is given as `shape`, or a text outside an array.

    MLServer takes such `data`, and its documentation sends it: outside an array with any number as
    its only dimension, such as the length of another text. None for any other data.

    Raises:
        InvalidInput: a text outside an array has a shape of several elements in several dimensions.
    """
    try:
        data = _LONE_TEXT.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    text = data if isinstance(data, str) else data[0]
    encoded = text.encode()
    if text is data and len(shape) > 1 and prod(shape) != 1:
        raise InvalidInput(
            f"{label(name)}: data is a single text, which is one element, but shape "
            f"{list(shape)} needs {prod(shape)}; expected an array of texts"
        )
    if text is data or list(shape) in ([len(text)], [len(encoded)]):
        return pack_bytes([encoded])
    return None


def json_values(tensor: Tensor) -> Any:
    """The elements of an output tensor, flat and row-major, as orjson serialises them.

    NaN and infinities become `null` there, so the answer is always valid JSON; a client that
    needs them exactly asks for binary tensor data. FP16 and BF16 widen to plain numbers.

    Raises:
        BadModelOutput: an element of a BYTES tensor is not UTF-8, or the data is cut short.
    """
    kind = DATATYPES[tensor.datatype]
    if not kind.itemsize:
        return _strings(tensor)
    if kind.name == "BF16":
        return from_bfloat16(np.frombuffer(tensor.data, "<u2"))
    # FP32 stays with numpy at every size: its shortest form is 0.1, not 0.10000000149.
    if tensor.nbytes <= 512 and kind.code not in "ef":
        return _unpacker(kind.code, tensor.nbytes // kind.itemsize)(tensor.data)
    array = np.frombuffer(tensor.data, kind.numpy)
    return array if array.flags.aligned else array.copy()


def _strings(tensor: Tensor) -> list[str]:
    where = f"output '{shorten(tensor.name)}'"
    count = 1
    for dim in tensor.shape:
        count *= dim
    try:
        elements = unpack_bytes(tensor.data, count, where)
    except InvalidInput as error:
        raise BadModelOutput(error.message) from None
    try:
        return [element.decode() for element in elements]
    except UnicodeDecodeError:
        raise not_text(tensor) from None


def not_text(tensor: Tensor) -> BadModelOutput:
    """The error for an output whose elements are no text."""
    return BadModelOutput(
        f"output '{shorten(tensor.name)}': not all BYTES elements are UTF-8 text, so JSON cannot "
        "carry them; request this output with the parameter binary_data: true"
    )


class _Decoders(dict[int, Callable[[bytes], Any]]):
    """Typed decoders of one element type by nesting depth, created when first needed."""

    def __init__(self, element: Any) -> None:
        self.element = element

    def nested(self, depth: int) -> Any:
        """The type of lists of this depth."""
        form = self.element
        for _ in range(depth):
            form = list.__class_getitem__(form)
        return form

    def __missing__(self, depth: int) -> Callable[[bytes], Any]:
        self[depth] = msgspec.json.Decoder(self.nested(depth)).decode
        return self[depth]


def _depth(text: bytes, shape: Sequence[int], name: str) -> int:
    """The depth of the first element: 1, or the rank of `shape`."""
    if len(shape) < 2:
        return 1
    head = len(text) - len(text.lstrip(b"[" + _WHITESPACE))
    depth = text.count(b"[", 0, head)
    if depth not in (1, len(shape)):
        raise other_nesting(shape, name)
    return depth


def _unnest(text: bytes, kind: Datatype, shape: Sequence[int], name: str) -> bytes:
    """Check the nesting of a large array by its brackets and drop them, to save a list per row."""
    if b'"' in text:
        raise mistake(text, kind, len(shape), shape, name)
    if _HOLLOW.search(text) or not is_skeleton(text.translate(None, NOT_STRUCTURE), shape):
        raise other_nesting(shape, name)
    return b"[" + text.translate(None, b"[]") + b"]"


def _decode_again(text: bytes, kind: Datatype, depth: int, shape: Sequence[int], name: str) -> Any:
    """Decode integers, some of which are written as `1.0`; explain any other mistake."""
    if kind.is_integer:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _INTEGERS_OR_FLOATS[depth](text)
    raise mistake(text, kind, depth, shape, name)


def _flatten(values: list[Any], shape: Sequence[int], name: str) -> list[Any]:
    if len(values) != shape[0]:
        raise other_nesting(shape, name)
    for dim in shape[1:]:
        for row in values:
            if len(row) != dim:
                raise other_nesting(shape, name)
        values = values[0] if len(values) == 1 else list(chain.from_iterable(values))
    return values


@lru_cache(maxsize=256)
def _packer(code: str, count: int) -> Callable[..., bytes]:
    return struct.Struct(f"<{count}{code}").pack


@lru_cache(maxsize=256)
def _unpacker(code: str, count: int) -> Callable[[Buffer], tuple[Any, ...]]:
    return struct.Struct(f"<{count}{code}").unpack


def _pack_brain_floats(values: list[Any], kind: Datatype, shape: Sequence[int], name: str) -> bytes:
    numbers = np.array([nan if value is None else value for value in values], np.float64)
    return narrowed(numbers, kind, shape, name).tobytes()


def _pack_floats(values: list[Any], kind: Datatype, shape: Sequence[int], name: str) -> bytes:
    pack = _packer(kind.code, len(values))
    try:
        try:
            return pack(*values)
        except struct.error:
            return pack(*[nan if value is None else value for value in values])
    except OverflowError:
        numbers = [nan if value is None else value for value in values]
        narrowed(np.array(numbers, np.float64), kind, shape, name)
        raise


def _pack_integers(values: list[Any], kind: Datatype, shape: Sequence[int], name: str) -> bytes:
    pack = _packer(kind.code, len(values))
    try:
        return pack(*values)
    except struct.error:
        return pack(*_whole(values, kind, shape, name))


def _whole(values: list[Any], kind: Datatype, shape: Sequence[int], name: str) -> list[int]:
    assert kind.low is not None
    assert kind.high is not None
    numbers = []
    for index, value in enumerate(values):
        if isinstance(value, float) and not (value.is_integer() and abs(value) <= EXACT):
            raise out_of_range(index, kind, shape, name)
        if not kind.low <= value <= kind.high:
            raise out_of_range(index, kind, shape, name)
        numbers.append(int(value))
    return numbers


def _pack_booleans(values: list[Any], kind: Datatype, shape: Sequence[int], name: str) -> bytes:
    try:
        packed = bytes(values)
    except ValueError:
        packed = b"\2"
    if packed.translate(None, b"\0\1"):
        index = next(i for i, value in enumerate(values) if value not in (0, 1))
        raise not_boolean(index, shape, name)
    return packed


def _slices_of_booleans(text: bytes, start: int, end: int, count: int) -> bytes | None:
    """A flat array `text[start:end]` in slices, between which other threads get their turn.

    None if there is anything wrong with it.
    """
    whole, decode = BytesIO(), _BOOL_FORM.decode[1]
    start, end = start + 1, end - 1
    while start < end:
        # No comma is within an element: a slice of something else is no list of booleans.
        comma = text.find(b",", min(start + LARGE, end), end)
        stop = end if comma < 0 else comma
        try:
            values = decode(b"[%b]" % text[start:stop])
            whole.write(bytes(values))
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError):
            return None
        if not values:
            return None
        start = stop + 1
    packed = whole.getvalue()
    is_right = len(packed) == count and not packed.translate(None, b"\0\1")
    # After the last comma of an array comes another element.
    return packed if is_right and text[end - 1 : end] != b"," else None


def _pack_strings(values: list[Any], kind: Datatype, shape: Sequence[int], name: str) -> bytes:
    if len(values) <= _PACKED:
        return pack_bytes([value.encode() for value in values])
    # What a block of them takes while it is packed is several times its bytes.
    whole = BytesIO()
    for start in range(0, len(values), _PACKED):
        whole.write(pack_bytes([value.encode() for value in values[start : start + _PACKED]]))
    return whole.getvalue()


class _Form:
    """How one datatype is read from JSON; `by_buffer` if large data needs no Python objects."""

    __slots__ = ("by_buffer", "decode", "pack")

    def __init__(
        self,
        decode: _Decoders,
        pack: Callable[[list[Any], Datatype, Sequence[int], str], bytes],
        by_buffer: bool,
    ) -> None:
        self.decode = decode
        self.pack = pack
        self.by_buffer = by_buffer


_INTEGERS_OR_FLOATS = _Decoders(int | float)
_INTEGER_FORM = _Form(_Decoders(int), _pack_integers, True)
_BOOL_FORM = _Form(_Decoders(bool | int), _pack_booleans, False)
_FLOAT_FORM = _Form(_Decoders(float | None), _pack_floats, True)

_FORMS = {row.name: _INTEGER_FORM for row in DATATYPES.values() if row.is_integer}
_FORMS.update(
    FP16=_FLOAT_FORM,
    BF16=_Form(_Decoders(float | None), _pack_brain_floats, True),
    FP32=_FLOAT_FORM,
    FP64=_FLOAT_FORM,
    BOOL=_BOOL_FORM,
    BYTES=_Form(_Decoders(str), _pack_strings, False),
)


def _pack_empty(text: bytes, shape: Sequence[int], name: str) -> bytes:
    """A zero-element tensor: `[]`, or empty arrays nested exactly as the shape says."""
    bare = text.translate(None, _WHITESPACE)
    if bare != b"[]" and not is_skeleton(bare, shape):
        raise InvalidInput(
            f"{label(name)}: shape {list(shape)} has no elements, so data must be an empty array"
        )
    return b""
