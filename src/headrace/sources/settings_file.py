"""Reads settings files up to a bound; errors name the file and the place of the fault."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec
import orjson

from headrace.errors import ConfigurationError, did_you_mean, shorten
from headrace.protocol.open_inference.json_faults import described, fault_of, syntax_fault
from headrace.settings import MIB

LARGEST = 1 * MIB
# Of the words in one place that nobody knows. To find the nearest one takes milliseconds.
MOST_NAMED = 20


class SettingsObject(NamedTuple):
    """The JSON object in a file, and a sentence for each name in it that is given twice."""

    values: dict[str, Any]
    repeated: tuple[str, ...]


def read_object(file: Path) -> SettingsObject:
    """The JSON object in a file. Of values with the same name, the last one counts.

    Raises:
        ConfigurationError: it cannot be read, is too large, or holds something else.
    """
    try:
        if file.stat().st_size > LARGEST:
            raise ConfigurationError(f"{file}: larger than {LARGEST} bytes")
        # Some editors begin a file in UTF-8 with its byte order mark.
        text = file.read_bytes().removeprefix(BOM_UTF8)
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{file}: {_fault(text)}") from error
    if not isinstance(value, dict):
        raise ConfigurationError(f"{file}: expected an object")

    def sentence(name: str) -> str:
        return f"{file}: '{shorten(name)}' is given more than once, and the last one counts"

    return SettingsObject(value, tuple(named(_repeated(text), sentence, str(file))))


def named(words: Sequence[str], sentence: Callable[[str], str], where: str) -> Iterator[str]:
    """The sentences about the first few words, and how many more there are."""
    yield from map(sentence, words[:MOST_NAMED])
    if len(words) > MOST_NAMED:
        yield f"{where}: the same goes for {len(words) - MOST_NAMED:,} more"


def converted(value: Any, hint: Any, origin: str, unit: str = "") -> Any:
    """A value converted to the type `hint`, even from numbers and lists written as text.

    Raises:
        ConfigurationError: it cannot be converted; `origin` says where it came from.
    """
    try:
        return msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError as error:
        _refuse_unknown_members(value, hint, origin)
        _refuse_content(value, hint, origin)
        got, wanted = shorten(repr(value)), described(hint)
        kind = "array" if isinstance(value, list) else "object"
        if isinstance(value, (list, dict)) and kind in wanted:
            # It is one, but its content does not fit.
            wanted = f"an {kind} of another form"
        counted = f" of {unit}" if unit else ""
        raise ConfigurationError(f"{origin}: expected {wanted}{counted}, got {got}") from error


def is_comment(key: str) -> bool:
    """Whether a key, such as "$schema" or "_comment", is not meant to have an effect."""
    return not key[:1].isalpha()


def _fault(text: bytes) -> str:
    """What keeps a text from being JSON, with the line and column that an editor shows."""
    fault = syntax_fault(text)
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        if "ends too early" in fault:
            return f"{fault}, at {place}"
        if "character" in fault:
            return f"not valid JSON: the fault is at {place}"
    return fault


def _refuse_unknown_members(value: Any, hint: Any, origin: str) -> None:
    """Name the first member of an object that the struct in `hint` does not have."""
    for kind in get_args(hint) or (hint,):
        if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            for name in value.keys() - set(kind.__struct_fields__):
                hint_text = did_you_mean(name, kind.__struct_fields__)
                raise ConfigurationError(
                    f"{origin}: there is no key '{shorten(name)}'{hint_text}"
                ) from None
            for name, inner in get_type_hints(kind).items():
                _refuse_unknown_members(value.get(name), inner, f"{origin}.{name}")


def _refuse_content(value: Any, hint: Any, origin: str) -> None:
    """Say where in a list or an object the fault is, if that can be found out."""
    fault = fault_of(msgspec.json.encode(value), hint) if isinstance(value, (list, dict)) else None
    if fault is not None and fault.path:
        place = f"{origin}{'' if fault.path[0] == '[' else '.'}{fault.path}"
        reason = f"expected {fault.expected}, got {fault.got}" if fault.expected else "is missing"
        raise ConfigurationError(f"{place}: {reason}") from None


def _repeated(text: bytes) -> list[str]:
    """The names that an object of a JSON text has more than once."""
    found: dict[str, None] = {}

    def seen(members: list[tuple[str, Any]]) -> dict[str, Any]:
        value = {}
        for name, member in members:
            if name in value:
                found[name] = None
            value[name] = member
        return value

    try:
        json.loads(text, object_pairs_hook=seen)
    except (ValueError, RecursionError):
        # The reader of the file has other limits: for the digits of a number, for one.
        return []
    return list(found)
