"""What the JSON of an infer request has around the elements of its tensors.

In a large one, nothing is made of shapes and parameters before it is known that they are small: an
empty list takes 20 times the bytes that it has as JSON.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from headrace.protocol.datatypes import MAX_RANK, too_many_dimensions
from headrace.protocol.open_inference.counts import UNCOUNTED, Counts
from headrace.protocol.open_inference.data_faults import label

ABSENT = msgspec.Raw(b"")
# Bytes from which on a shape has more dimensions than are allowed, or else very many spaces.
_LONG_SHAPE = 4096
_Parameters = dict[str, Any] | None
_Text = bytes | memoryview


class OpenInput(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = ABSENT
    parameters: _Parameters = None


class _Input(OpenInput, gc=False, forbid_unknown_fields=True):
    pass


class OpenOutput(msgspec.Struct, gc=False):
    name: str
    parameters: _Parameters = None


class _Output(OpenOutput, gc=False, forbid_unknown_fields=True):
    pass


class OpenBody(msgspec.Struct, gc=False):
    inputs: list[OpenInput]
    id: str | None = None
    parameters: _Parameters = None
    outputs: list[OpenOutput] | None = None


class Body(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    inputs: list[_Input]
    id: str | None = None
    parameters: _Parameters = None
    outputs: list[_Output] | None = None


class _OpenLeanInput(msgspec.Struct, gc=False):
    name: str
    shape: msgspec.Raw
    datatype: str
    data: msgspec.Raw = ABSENT
    parameters: msgspec.Raw = ABSENT


class _LeanInput(_OpenLeanInput, gc=False, forbid_unknown_fields=True):
    pass


class _OpenLeanOutput(msgspec.Struct, gc=False):
    name: str
    parameters: msgspec.Raw = ABSENT


class _LeanOutput(_OpenLeanOutput, gc=False, forbid_unknown_fields=True):
    pass


class _OpenLeanBody(msgspec.Struct, gc=False):
    inputs: list[_OpenLeanInput]
    id: str | None = None
    parameters: msgspec.Raw = ABSENT
    outputs: list[_OpenLeanOutput] | None = None


class _LeanBody(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    inputs: list[_LeanInput]
    id: str | None = None
    parameters: msgspec.Raw = ABSENT
    outputs: list[_LeanOutput] | None = None


_decode = msgspec.json.Decoder(Body).decode
_decode_open = msgspec.json.Decoder(OpenBody).decode
_decode_lean = msgspec.json.Decoder(_LeanBody).decode
_decode_open_lean = msgspec.json.Decoder(_OpenLeanBody).decode
_shape = msgspec.json.Decoder(list[int]).decode
_parameters = msgspec.json.Decoder(_Parameters).decode


def decode(text: _Text, counts: Counts) -> Body:
    """A body of which every key is known. Hot.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is something else.
        TooLarge: a large one has more values in its parameters than `counts` allows.
        InvalidInput: a shape of a large one is very long.
    """
    return _decode(text) if len(text) < UNCOUNTED else _filled(_decode_lean(text), counts)


def decode_open(text: _Text, counts: Counts) -> OpenBody:
    """A body with other keys, which cost a second look; raises as `decode` does."""
    if len(text) < UNCOUNTED:
        return _decode_open(text)
    return cast(OpenBody, _filled(_decode_open_lean(text), counts))


def _filled(lean: Any, counts: Counts) -> Any:
    """A body whose shapes and parameters are still text, with their values in place of that."""
    items = (lean, *lean.inputs, *(lean.outputs or ()))
    texts = [item.parameters for item in items if len(item.parameters)]
    counts.check_values(b",".join(texts))
    for item in items:
        item.parameters = _parameters(item.parameters) if len(item.parameters) else None
    for item in lean.inputs:
        if len(item.shape) > _LONG_SHAPE and (rank := _rank(item.shape)) > MAX_RANK:
            raise too_many_dimensions(rank, label(item.name))
        item.shape = _shape(item.shape)
    return lean


def _rank(shape: msgspec.Raw) -> int:
    return bytes(shape).count(b",") + 1
