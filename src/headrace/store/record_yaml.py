"""The YAML of records, written as PyYAML writes it and read without trusting it."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import yaml

from headrace.errors import InvalidModel, shorten
from headrace.settings import MIB

LARGEST = 4 * MIB
# libyaml's composer recurses into each level, and crashes the process at the end of the stack.
DEEPEST = 64
# Aliases of aliases make a few lines stand for more values than memory holds.
MOST_VALUES = 1_000_000

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PYTHON = "tag:yaml.org,2002:python/"


class _Loader(_SafeLoader):
    """Makes the values that metadata may have, and no others."""


class _Dumper(yaml.SafeDumper):
    """Writes them as the loader, and PyYAML's own unsafe one, read them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _complex(loader: Any, node: Any) -> complex:
    return complex(loader.construct_scalar(node))


def _tuple(loader: Any, node: Any) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


def _timedelta(loader: Any, node: Any) -> datetime.timedelta:
    return datetime.timedelta(*loader.construct_sequence(node))


def _time(loader: Any, node: Any) -> datetime.time:
    (text, *_) = loader.construct_sequence(node)
    if isinstance(text, bytes):
        # As other programs wrote it: the state of a pickled time.
        return datetime.time(text)  # type: ignore[arg-type]
    return datetime.time.fromisoformat(text)


for _name, _constructor in (
    ("complex", _complex),
    ("tuple", _tuple),
    ("object/apply:datetime.timedelta", _timedelta),
    ("object/apply:datetime.time", _time),
    ("object/apply:datetime.time.fromisoformat", _time),
):
    _Loader.add_constructor(_PYTHON + _name, _constructor)

_Dumper.add_representer(
    complex,
    lambda dumper, value: dumper.represent_scalar(_PYTHON + "complex", str(value).strip("()")),
)
_Dumper.add_representer(
    tuple, lambda dumper, value: dumper.represent_sequence(_PYTHON + "tuple", value)
)
_Dumper.add_representer(
    datetime.timedelta,
    lambda dumper, value: dumper.represent_sequence(
        _PYTHON + "object/apply:datetime.timedelta",
        [value.days, value.seconds, value.microseconds],
    ),
)
_Dumper.add_representer(
    datetime.time,
    lambda dumper, value: dumper.represent_sequence(
        _PYTHON + "object/apply:datetime.time.fromisoformat", [value.isoformat()]
    ),
)


def dump(value: Any) -> str:
    """The YAML of a value, with the keys of mappings in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def read_record(file: Path) -> dict[str, Any]:
    """The mapping in a record.

    Raises:
        InvalidModel: it is missing or too large, is not YAML, or holds something else.
    """
    shown = f"'{shorten(file.name)}'"
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST + 1)
    except OSError as error:
        raise InvalidModel(f"{shown} cannot be read: {error.strerror}") from None
    if len(data) > LARGEST:
        raise InvalidModel(f"{shown} is larger than {LARGEST} bytes")
    try:
        _check(data, shown)
        content = yaml.load(data, Loader=_Loader)  # noqa: S506 - a safe one, with four more types
    except InvalidModel:
        raise
    # Constructors raise whatever their innermost line raises.
    except Exception as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise InvalidModel(f"{shown} is not valid YAML{where}") from None
    if not isinstance(content, dict):
        raise InvalidModel(f"{shown}: expected a mapping")
    return content


def _check(data: bytes, shown: str) -> None:
    """Refuse nesting that is too deep, and aliases that expand to too much."""
    anchors: dict[str | None, int] = {}
    total = 0
    # The anchor of each open collection, and how many values came before it.
    open_ones: list[tuple[str | None, int]] = []
    for event in yaml.parse(data, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            total += anchors.get(event.anchor, 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_ones.append((event.anchor, total))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_ones.pop()
            if anchor is not None:
                anchors[anchor] = total - before
        total += 1
        if len(open_ones) > DEEPEST:
            raise InvalidModel(f"{shown} is nested deeper than {DEEPEST} levels")
        if total > MOST_VALUES:
            raise InvalidModel(f"{shown} holds more than {MOST_VALUES} values")
