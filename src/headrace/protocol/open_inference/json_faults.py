"""Why JSON or a value was refused, in our own words.

A decoder explains it in a sentence for humans, which changes between versions. That sentence is
neither parsed nor passed on: refused text is examined again, which costs valid requests nothing.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import orjson
from msgspec import inspect

from headrace.errors import shorten

# Texts of more bytes are not searched for the place of a syntax fault, nor arrays of more elements
# for a faulty one: it would cost an object for each.
LARGEST = 2**20
MOST_ELEMENTS = 5_000

_KINDS = {
    ord("{"): "object",
    ord("["): "array",
    ord('"'): "string",
    ord("t"): "boolean",
    ord("f"): "boolean",
    ord("n"): "null",
}


class Fault(NamedTuple):
    """The first place where JSON differs from what is expected.

    `path` is like `inputs[0].name`, and empty for the whole text. `expected` is what may be there,
    and empty if a member is missing; `got` is what is there, and empty for a number out of range.
    """

    path: str
    expected: str
    got: str


# What Python's json writes for floats that JSON does not have.
_NOT_IN_JSON = re.compile(r"NaN|-?Infinity")
_BYTE_ORDER_MARK = "\ufeff"


def syntax_fault(text: bytes | memoryview) -> str:
    """What is wrong with a text that a decoder refused as JSON, and where."""
    try:
        characters = str(text, "utf-8")
    except UnicodeDecodeError as error:
        return f"not valid UTF-8 at byte {error.start}"
    if len(text) > LARGEST:
        ended = bytes(text[-1:]) in (b"}", b"]", b"\n", b" ")
        return "not valid JSON" if ended else "not valid JSON: it ends too early"
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if error.pos < len(characters):
            return f"not valid JSON: {_misplaced(characters, error.pos)}"
        return "not valid JSON: it ends too early"
    return "not valid JSON: it is nested too deeply, or holds half of a surrogate pair"


def _misplaced(text: str, place: int) -> str:
    """What there is at the character where a text stops being JSON."""
    if text.startswith(_BYTE_ORDER_MARK):
        return "it begins with a byte order mark"
    # A decoder may stop behind the sign.
    if word := _NOT_IN_JSON.match(text, max(place - 1, 0)) or _NOT_IN_JSON.match(text, place):
        return f"{word[0]} at character {word.start()}; a missing number is null"
    return f"the fault is at character {place}"


def refusal(text: bytes | memoryview, hint: Any, what: str) -> str:
    """Why a text is not JSON of the type `hint`, as a sentence; `what` names the whole text."""
    try:
        fault = fault_of(text, hint)
        str(text, "utf-8")
    except RecursionError:
        return f"{what} is nested too deeply"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"{what} is {syntax_fault(text)}"
    if fault is None:
        return f"{what} does not have the expected form"
    if not fault.expected:
        return f"{fault.path} is missing"
    if not fault.got:
        return f"{fault.path or what}: number out of range"
    return f"{fault.path or what}: expected {fault.expected}, got {fault.got}"


def fault_of(text: bytes | memoryview, hint: Any) -> Fault | None:
    """The first place where JSON does not match `hint`; None if it was not found.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: the text is not JSON at all.
    """
    whole = bytes(msgspec.json.decode(text, type=msgspec.Raw))
    return _find(whole.strip(), inspect.type_info(hint), "")


def _find(raw: bytes, wanted: inspect.Type, path: str) -> Fault | None:
    kind = _kind(raw)
    fits = [each for each in _alternatives(wanted) if kind in _accepted(each)]
    if not fits:
        return Fault(path, _word(wanted), kind)
    form = fits[0]
    if isinstance(form, (inspect.IntType, inspect.FloatType)):
        if not math.isfinite(float(raw)):
            return Fault(path, _word(form), "")
        return None if _in_bounds(float(raw), form) else Fault(path, _bounded(form), raw.decode())
    if isinstance(form, inspect.ListType):
        if raw.count(b"{" if _is_struct(form.item_type) else b",") > MOST_ELEMENTS:
            return None
        return _first(
            (item, form.item_type, f"{path}[{index}]")
            for index, item in enumerate(msgspec.json.decode(raw, type=list[msgspec.Raw]))
        )
    if isinstance(form, inspect.DateTimeType):
        return None if _is_time(raw) else Fault(path, _word(form), "another string")
    if isinstance(form, inspect.StructType):
        members = _members(form.cls, raw)
        if form.forbid_unknown_fields and (unknown := _unknown(form, raw)):
            names = ", ".join(field.encode_name for field in form.fields)
            return Fault(path, f"no other keys than {names}", f"'{shorten(unknown)}'")
        prefix = f"{path}." if path else ""
        for field in form.fields:
            if field.required and field.encode_name not in members:
                return Fault(prefix + field.encode_name, "", "")
        return _first(
            (members[field.encode_name], field.type, prefix + field.encode_name)
            for field in form.fields
            if field.encode_name in members
        )
    return None


def _is_struct(wanted: inspect.Type) -> bool:
    return any(isinstance(each, inspect.StructType) for each in _alternatives(wanted))


@lru_cache(maxsize=64)
def _raw_twin(cls: type) -> type[msgspec.Struct]:
    """A struct with the same members, none of which is decoded."""
    names = [field.encode_name for field in msgspec.structs.fields(cls)]
    return msgspec.defstruct("Raw", [(name, msgspec.Raw, msgspec.Raw()) for name in names])


def _members(cls: type, raw: bytes) -> dict[str, msgspec.Raw]:
    """The members that a struct knows, by name; all others are skipped at no cost."""
    found = msgspec.json.decode(raw, type=_raw_twin(cls))
    members = ((name, getattr(found, name)) for name in found.__struct_fields__)
    return {name: value for name, value in members if len(value)}


def _unknown(form: inspect.StructType, raw: bytes) -> str | None:
    """The first key of an object that its struct does not have."""
    known = {field.encode_name for field in form.fields}
    keys = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    return next((key for key in keys if key not in known), None)


def _is_time(raw: bytes) -> bool:
    try:
        msgspec.json.decode(raw, type=datetime)
    except msgspec.ValidationError:
        return False
    return True


def _first(places: Any) -> Fault | None:
    found = (_find(bytes(raw), wanted, path) for raw, wanted, path in places)
    return next((fault for fault in found if fault is not None), None)


def _kind(raw: bytes) -> str:
    kind = _KINDS.get(raw[0]) if raw else "nothing"
    return kind or ("number" if any(letter in raw for letter in b".eE") else "integer")


def _alternatives(wanted: inspect.Type) -> tuple[inspect.Type, ...]:
    """The types that a union holds, or the type itself, each without its description."""
    if isinstance(wanted, inspect.Metadata):
        return _alternatives(wanted.type)
    if isinstance(wanted, inspect.UnionType):
        return tuple(each for inner in wanted.types for each in _alternatives(inner))
    return (wanted,)


def _accepted(wanted: inspect.Type) -> tuple[str, ...]:
    """The kinds of JSON values that a type takes."""
    if isinstance(wanted, inspect.FloatType):
        return ("number", "integer")
    if isinstance(wanted, (inspect.RawType, inspect.AnyType)):
        return (*_KINDS.values(), "number", "integer")
    if isinstance(wanted, inspect.DateTimeType):
        return ("string",)
    return (_word(wanted),)


_WORDS: dict[type[inspect.Type], str] = {
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.StrType: "string",
    inspect.BoolType: "boolean",
    inspect.NoneType: "null",
    inspect.DateTimeType: "time such as 2027-01-31T00:00:00Z",
    inspect.ListType: "array",
    inspect.VarTupleType: "array",
    inspect.DictType: "object",
    inspect.StructType: "object",
    inspect.DataclassType: "object",
}


def _word(wanted: inspect.Type) -> str:
    words = [_WORDS.get(type(each), "value") for each in _alternatives(wanted)]
    # An optional member is better left out than sent as null, so null is not advertised.
    return " or ".join(word for word in words if word != "null" or len(words) == 1)


# How a bound is called, and where a type has it.
_BOUNDS = {"at least": "ge", "above": "gt", "at most": "le"}


def _in_bounds(number: float, form: inspect.IntType | inspect.FloatType) -> bool:
    return (
        (form.ge is None or number >= form.ge)
        and (form.gt is None or number > form.gt)
        and (form.le is None or number <= form.le)
    )


def _bounded(form: inspect.Type) -> str:
    """`integer, at least 1`."""
    bounds = {words: getattr(form, bound, None) for words, bound in _BOUNDS.items()}
    return _word(form) + "".join(
        f", {words} {bound:g}" for words, bound in bounds.items() if bound is not None
    )


def described(hint: Any) -> str:
    """What a setting of this type takes, bounds included: `integer, at least 1`."""
    wanted = inspect.type_info(hint)
    bounds = [_bounded(each).removeprefix(_word(each)) for each in _alternatives(wanted)]
    return _word(wanted) + "".join(bounds)
