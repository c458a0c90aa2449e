"""Values of arrays, objects and maps: checked, and made fit, before MLflow enforces the signature.

Every value that does not fit is refused here, with its place; what MLflow says of it quotes the
data, and has no places. MLflow would refuse 2 for a double, any number of JSON for a 32-bit type,
and a time in text: here these are what they say, because nothing is lost.

Source: MLflow "Model Signature", "Array", "Object" and "Map" types, and how MLflow enforces them.
"""

from __future__ import annotations

from datetime import date
from typing import Any, Callable

import numpy as np

from headrace.codecs.bytes_elements import parse_time
from headrace.errors import InvalidInput, listing, shorten
from headrace.protocol.json_words import misfit
from headrace.protocol.mlflow.json_schema import is_required

_INTEGERS = {"integer": 2**31, "long": 2**63}
_FLOATS = ("float", "double")
# MLflow takes numbers of these types as numpy has them only.
_NARROW = {"integer": np.int32, "float": np.float32}
_NESTED = ("array", "object", "map")


def fitted(value: Any, schema: dict[str, Any], where: str, required: bool = True) -> Any:
    """The value as MLflow takes it for a type of the signature.

    Raises:
        InvalidInput: a part of it does not convert without loss. `where` names the column and the
            row; the message goes on with the property, key or element.
    """
    kind = str(schema.get("type"))
    if kind == "array":
        return _array(value, schema, where, required)
    if kind == "object":
        return _object(value, schema, where, required)
    if kind == "map":
        return _map(value, schema, where, required)
    return _scalar(value, kind, where, required)


def _array(value: Any, schema: dict[str, Any], where: str, required: bool) -> Any:
    items: dict[str, Any] = schema.get("items") or {}
    kind = items.get("type")
    if value is None and (not required or kind == "any"):
        return None
    if not isinstance(value, list):
        raise _unlike(where, "a list (array)", value)
    # A number, text or time may be missing from a list of them.
    inner = required and kind in _NESTED
    fit = [
        fitted(item, items, f"{where}, element {index:,}", inner)
        for index, item in enumerate(value)
    ]
    if kind in _INTEGERS and None in fit:
        place = f"{where}, element {fit.index(None):,}"
        raise _unlike(place, kind, None)
    if kind in _NARROW and fit:
        return np.array([np.nan if item is None else item for item in fit], _NARROW[kind])
    return fit


def _object(value: Any, schema: dict[str, Any], where: str, required: bool) -> Any:
    if not required and (value is None or value == {}):
        return value
    if not isinstance(value, dict):
        raise _unlike(where, "an object", value)
    properties: dict[str, dict[str, Any]] = schema.get("properties") or {}
    missing = [name for name in properties if is_required(properties[name]) and name not in value]
    if missing:
        raise InvalidInput(
            f"{where}: expected the properties {listing(missing)}, which are missing"
        )
    unknown = [name for name in value if name not in properties]
    if unknown:
        raise InvalidInput(
            f"{where}: expected the properties {listing(list(properties))}, got {listing(unknown)}"
        )
    return {
        name: fitted(
            item,
            properties[name],
            f"{where}, property '{shorten(name)}'",
            is_required(properties[name]),
        )
        for name, item in value.items()
    }


def _map(value: Any, schema: dict[str, Any], where: str, required: bool) -> Any:
    values: dict[str, Any] = schema.get("values") or {}
    if (not required or values.get("type") == "any") and (value is None or value == {}):
        return value
    if not isinstance(value, dict):
        raise _unlike(where, "an object (map)", value)
    return {
        name: fitted(item, values, f"{where}, key '{shorten(name)}'", required)
        for name, item in value.items()
    }


def _scalar(value: Any, kind: str, where: str, required: bool) -> Any:
    takes = _TAKES.get(kind)
    if takes is None:
        return value
    if value is None or (kind not in (*_INTEGERS, *_FLOATS) and value != value):
        # Null, or what pandas writes for it. Numbers have none of their own.
        if required and (kind in _INTEGERS or kind in _FLOATS):
            raise _unlike(where, kind, None)
        return None
    if not takes(value):
        raise _unlike(where, kind, value)
    if kind == "datetime":
        return _time(value, where)
    if kind in _INTEGERS:
        value = int(value)
    return _NARROW[kind](value) if kind in _NARROW else value


def _time(value: Any, where: str) -> Any:
    import pandas as pd

    try:
        time = pd.Timestamp(parse_time(value) if isinstance(value, str) else value)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"{where}: expected an ISO 8601 time, got other text") from error
    naive = time if time.tz is None else time.tz_convert("UTC").tz_localize(None)
    # MLflow takes scalars of numpy only.
    return naive.as_unit("ns").to_datetime64()


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
    if kind in _FLOATS and type(value) is int:
        return _float(value, kind, from_json)
    if kind in _INTEGERS and type(value) is float and value.is_integer():
        return int(value)
    return value


def _float(value: int, kind: str, is_rounded: bool) -> float | int:
    try:
        number = float(value)
    except OverflowError:
        return value
    exact = number == value and (kind == "double" or abs(value) <= 2**24)
    return number if is_rounded or exact else value


def _unlike(where: str, expected: str, value: Any) -> InvalidInput:
    return InvalidInput(f"{where}: expected {expected}, got {misfit(value, expected)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Any, limit: int) -> bool:
    if not _is_number(value) or value != value:
        return False
    return bool(-limit <= value < limit and value == int(value))


def _is_single(value: Any) -> bool:
    if not isinstance(value, float):
        return False
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.float32(value)) or not np.isfinite(value))


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, bytes))


_TAKES: dict[str, Callable[[Any], bool]] = {
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_whole(value, _INTEGERS["integer"]),
    "long": lambda value: _is_whole(value, _INTEGERS["long"]),
    "float": _is_single,
    "double": lambda value: isinstance(value, float),
    "string": lambda value: isinstance(value, str),
    "binary": _is_text,
    "datetime": lambda value: isinstance(value, (str, date, np.datetime64)),
}
