"""Reads YAML files of models without trusting them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headrace.errors import InvalidModel, shorten
from headrace.settings import MIB

# What stands for no value, as every scalar stays text.
NULLS = ("", "null", "~")
# libyaml's composer recurses into each level, and crashes the process at the end of the stack.
DEEPEST = 64


def read(file: Path, largest: int = 1 * MIB, shown: str = "") -> dict[str, Any]:
    """The mapping in a file: text, lists and mappings only. Messages call the file `shown`.

    Raises:
        InvalidModel: it is missing, larger than `largest` bytes, or holds something else.
    """
    # Imported here because a server of models without such files starts sooner without it.
    import yaml

    # Every scalar stays text: Python 3.10 is not the number 3.1. Merges, which can explode, stay
    # keys.
    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    shown = shown or f"'{shorten(file.name)}'"
    # Reading from a pipe or a device might never end.
    if file.exists() and not file.is_file():
        raise InvalidModel(f"{shown} is not a file")
    try:
        with file.open("rb") as opened:
            data = opened.read(largest + 1)
    except OSError as error:
        raise InvalidModel(f"{shown} cannot be read: {error.strerror}") from None
    if len(data) > largest:
        raise InvalidModel(f"{shown} is larger than {largest} bytes")
    try:
        _check_depth(yaml.parse(data, Loader=loader), shown)
        content = yaml.load(data, Loader=loader)  # noqa: S506 - makes no objects
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # The parser has a bound of its own for nesting, and may read ahead to it.
        raise InvalidModel(
            f"{shown} is not valid YAML, or is nested deeper than {DEEPEST} levels{_place(error)}"
        ) from None
    if not isinstance(content, dict):
        raise InvalidModel(f"{shown}: expected a mapping{'' if content else ', it is empty'}")
    return content


def _place(error: Exception) -> str:
    """Where the parser stopped, and why, if it says so."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return ""
    return f": line {mark.line + 1}: {shorten(getattr(error, 'problem', None) or 'it ends here')}"


def _check_depth(events: Iterable[Any], shown: str) -> None:
    from yaml.events import CollectionEndEvent, CollectionStartEvent

    depth = 0
    for event in events:
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise InvalidModel(f"{shown} is nested deeper than {DEEPEST} levels")
