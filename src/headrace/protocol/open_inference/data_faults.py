"""Why the `data` member of a JSON tensor is refused: which element, what it must be, what it is.

Called for texts that a decoder has refused already, so requests that are answered pay nothing. The
element is found in the text itself, at any size, without an object for each.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isinf

import numpy as np

from headrace.errors import InvalidInput, shorten
from headrace.protocol import place
from headrace.protocol.bfloat16 import MAX_BFLOAT16
from headrace.protocol.datatypes import Datatype

# The last one of a text that was cut off may lack its end.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_SCALAR = re.compile(rb"[^\[\], \t\r\n]+")
# A bracket, or all scalars between two of them.
_MARK = re.compile(rb"[\[\]]|[^\[\], \t\r\n][^\[\]]*")
_WORDS = {
    ord('"'): "text",
    ord("{"): "an object",
    ord("t"): "true or false",
    ord("f"): "true or false",
    ord("n"): "null",
}
# What an element of each datatype does not begin with, or have in it. Strings are one quote here.
_UNLIKE_FLOAT = re.compile(rb'["tf{]')
_UNLIKE_INTEGER = re.compile(rb'["tfn{]')
_UNLIKE = {
    "BOOL": re.compile(rb'["n{.]|[0-9][eE]'),
    "BYTES": re.compile(rb"[-0-9tfn{]"),
}


def label(name: str) -> str:
    """Name an input in an error message."""
    return f"input '{shorten(name)}'"


def mistake(
    text: bytes, kind: Datatype, depth: int, shape: Sequence[int], name: str
) -> InvalidInput:
    """The error for an array of JSON, nested `depth` deep, that a typed decoder refused.

    Its syntax is good, and it is for a tensor of this datatype and shape.
    """
    bare = _STRING.sub(b'"', text)
    by_group = _UNLIKE_FLOAT if kind.is_float else _UNLIKE_INTEGER
    found = _UNLIKE.get(kind.name, by_group).search(bare)
    end = len(bare) if found is None else found.start()
    at = _other_depth(bare, depth, end)
    if at is not None:
        if len(shape) > 1:
            return other_nesting(shape, name)
        index = bare.count(b",", 0, at)
        return place.refusal(label(name), index, shape, _wanted(kind), "a list")
    if found is not None:
        index = bare.count(b",", 0, end)
        return place.refusal(label(name), index, shape, _wanted(kind), _word(bare, end))
    if kind.itemsize:
        scalars = enumerate(_SCALAR.finditer(bare))
        far = next((at for at, scalar in scalars if _is_infinite(scalar.group())), None)
        if far is not None:
            return out_of_range(far, kind, shape, name)
        return InvalidInput(f"{label(name)}: data must hold {_wanted(kind)} everywhere")
    return _not_unicode(text, kind, shape, name)


def out_of_range(index: int, kind: Datatype, shape: Sequence[int], name: str) -> InvalidInput:
    """The error for a number that its datatype cannot hold."""
    got = "a number that does not fit"
    return place.refusal(label(name), index, shape, f"{kind.name}{_limits(kind)}", got)


def other_nesting(shape: Sequence[int], name: str) -> InvalidInput:
    """The error for lists that are not as long or as deep as the shape says."""
    return InvalidInput(
        f"{label(name)}: data must be flat or nested exactly as shape {list(shape)}"
    )


def not_boolean(index: int, shape: Sequence[int], name: str) -> InvalidInput:
    """The error for a number that is no boolean."""
    expected = "true, false, 0 or 1 (BOOL)"
    return place.refusal(label(name), index, shape, expected, "another number")


def _other_depth(bare: bytes, depth: int, end: int) -> int | None:
    """Where the first scalar or list before `end` is that is not nested `depth` deep."""
    level = 0
    for mark in _MARK.finditer(bare, 0, end + 1):
        step = mark.group()
        if step == b"]":
            level -= 1
        elif step != b"[":
            if level != depth:
                return mark.start()
        elif level == depth:
            return mark.start()
        else:
            level += 1
    return None


def _word(bare: bytes, at: int) -> str:
    """What the scalar at this place is."""
    return _WORDS.get(bare[at], "a number")


def _is_infinite(scalar: bytes) -> bool:
    return scalar != b"null" and scalar[:1] not in b"tf" and isinf(float(scalar))


def _not_unicode(text: bytes, kind: Datatype, shape: Sequence[int], name: str) -> InvalidInput:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        index = _STRING.sub(b'"', text[: error.start]).count(b",")
        got = "bytes that are not valid Unicode text"
        return place.refusal(label(name), index, shape, _wanted(kind), got)
    return InvalidInput(f"{label(name)}: data holds a string that is not valid Unicode text")


def _wanted(kind: Datatype) -> str:
    if kind.is_integer:
        return f"a whole number ({kind.name})"
    word = {"BOOL": "true or false", "BYTES": "text"}.get(kind.name, "a number")
    return f"{word} ({kind.name})"


def _limits(kind: Datatype) -> str:
    if kind.is_integer:
        return f", a whole number from {kind.low} to {kind.high}"
    if not kind.is_float:
        return ""
    high = MAX_BFLOAT16 if kind.name == "BF16" else float(np.finfo(np.dtype(kind.numpy)).max)
    return f", a number from {-high:.8g} to {high:.8g}"
