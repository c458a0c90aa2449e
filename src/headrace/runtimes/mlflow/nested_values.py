"""Nested values of a request, checked and made fit before MLflow casts them.

MLflow would turn 1.5 into 1 for an integer type; here that is refused, as it is for plain
columns. It would refuse 2 for a double; here that is 2.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable

from headrace.errors import InvalidInput, shorten
from headrace.protocol.json_words import misfit, word_of

_INTEGERS = {"integer": 2**31, "long": 2**63}


def check(value: Any, schema: dict[str, Any], where: str) -> None:
    """Require that every leaf of `value` converts to the schema's type without loss.

    Lists are searched at any depth: MLflow reads them as rows or as arrays.

    Raises:
        InvalidInput: a leaf does not; `where` names the column.
    """
    kind = schema.get("type")
    for leaf in leaves(value):
        if leaf is None or (leaf != leaf and kind not in _INTEGERS and kind != "boolean"):
            # Null, or what pandas writes for it.
            continue
        if kind == "array":
            check(leaf, schema.get("items") or {}, where)
        elif kind == "object" and isinstance(leaf, dict):
            properties = schema.get("properties") or {}
            for name, item in leaf.items():
                if name in properties:
                    check(item, properties[name], f"{where}, property '{shorten(name)}'")
        elif kind == "map" and isinstance(leaf, dict):
            for item in leaf.values():
                check(item, schema.get("values") or {}, where)
        elif kind in ("object", "map"):
            raise InvalidInput(f"{where}: expected an object, got {word_of(type(leaf))}")
        elif kind in _CHECKS and not _CHECKS[kind](leaf):
            raise InvalidInput(f"{where}: expected {kind}, got {misfit(leaf, kind)}")


def whole(value: Any, schema: dict[str, Any], from_json: bool = True) -> Any:
    """The value with whole numbers as integers or floats, whichever the schema says.

    An integer in JSON becomes the nearest float, as a fraction does; one that had a type of its own
    only if it stays the same. Anything else is left as it is. Lists are searched at any depth.
    """
    if isinstance(value, list):
        return [whole(item, schema, from_json) for item in value]
    kind = schema.get("type")
    if kind == "array":
        return whole(value, schema.get("items") or {}, from_json)
    if isinstance(value, dict):
        if kind == "map":
            values = schema.get("values") or {}
            return {name: whole(item, values, from_json) for name, item in value.items()}
        properties = schema.get("properties") or {}
        return {
            name: whole(item, properties.get(name) or {}, from_json) for name, item in value.items()
        }
    if kind in ("double", "float") and type(value) is int:
        return _float(value, from_json)
    if kind in _INTEGERS and type(value) is float and value.is_integer():
        return int(value)
    return value


def _float(value: int, is_rounded: bool) -> float | int:
    try:
        number = float(value)
    except OverflowError:
        return value
    return number if is_rounded or number == value else value


def columns(value: Any) -> Iterator[tuple[str, Any, int | None]]:
    """The named cells of rows (a list of objects), each with its row, or columns (an object)."""
    if isinstance(value, dict):
        for name, cells in value.items():
            yield name, cells, None
    for number, row in enumerate(value if isinstance(value, list) else []):
        if isinstance(row, dict):
            for name, cell in row.items():
                yield name, cell, number


def leaves(value: Any) -> Iterator[Any]:
    """The elements of `value` after flattening all lists."""
    stack: list[Any] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        else:
            yield item


def _is_whole(value: Any, limit: int) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -limit <= value < limit and value == int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_whole(value, _INTEGERS["integer"]),
    "long": lambda value: _is_whole(value, _INTEGERS["long"]),
    "float": _is_number,
    "double": _is_number,
    "string": lambda value: isinstance(value, str),
    "binary": lambda value: isinstance(value, str),
}
