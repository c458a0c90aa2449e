"""Metadata of models: what a YAML file can hold, from the values that people have at hand."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.errors import InvalidInput, shorten

DEEPEST = 32
_PLAIN = (
    str, bytes, bool, int, float, complex,
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, type(None),
)  # fmt: skip
# Subclasses, such as enumerations of text, become what they are made of.
_SUBCLASSED: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
}


def normalised(metadata: Any, where: str = "metadata") -> dict[Any, Any]:
    """A copy of `metadata` without numpy and pandas: arrays become lists, tables dicts of lists.

    Keys are text or numbers. Values are text, bytes, numbers, dates and times, None, and lists,
    tuples and dicts of these.

    Raises:
        InvalidInput: it is not a dict, or there is a value of another type; the message says where.
    """
    if not isinstance(metadata, dict):
        raise InvalidInput(f"{where}: expected a dict, got {_type(metadata)}")
    return _mapping(metadata, where, 0)


def _value(value: Any, where: str, depth: int) -> Any:
    if depth > DEEPEST:
        raise InvalidInput(f"{where}: is nested deeper than {DEEPEST} levels")
    if isinstance(value, np.generic):
        return _of_numpy(value, where, depth)
    if isinstance(value, np.ndarray):
        return _value(value.tolist(), where, depth)
    if type(value).__module__.partition(".")[0] == "pandas":
        return _of_pandas(value, where, depth)
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        return _mapping(value, where, depth)
    if isinstance(value, (list, tuple)):
        items = [_value(each, f"{where}[{n}]", depth + 1) for n, each in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    for plain, convert in _SUBCLASSED.items():
        if isinstance(value, plain):
            return convert(value)
    raise InvalidInput(
        f"{where}: {_type(value)} is not kept; expected text, bytes, numbers, dates, times, numpy "
        "arrays, pandas tables, or lists and dicts of these"
    )


def _mapping(value: dict[Any, Any], where: str, depth: int) -> dict[Any, Any]:
    found = {}
    for key, each in value.items():
        key = key.item() if isinstance(key, np.generic) else key
        if not isinstance(key, (str, int, float)) or (
            isinstance(key, float) and not math.isfinite(key)
        ):
            raise InvalidInput(f"{where}: a key is {_type(key)}; expected text or a number")
        found[key] = _value(each, f"{where}.{shorten(key)}", depth + 1)
    return found


def _of_numpy(value: np.generic, where: str, depth: int) -> Any:
    if isinstance(value, (np.datetime64, np.timedelta64)):
        # In nanoseconds, which Python's own types cannot hold, it would become a bare number.
        kind = "datetime64[us]" if isinstance(value, np.datetime64) else "timedelta64[us]"
        value = value.astype(kind)
    item = value.item()
    if isinstance(item, np.generic):
        raise InvalidInput(f"{where}: {_type(value)} has no counterpart in Python")
    return _value(item, where, depth)


def _of_pandas(value: Any, where: str, depth: int) -> Any:
    # By name, because pandas may not be installed.
    names = {cls.__name__ for cls in type(value).__mro__}
    if "DataFrame" in names:
        columns = {str(name): value[name].tolist() for name in value.columns}
        return _mapping(columns, where, depth)
    if "NaTType" in names or "NAType" in names:
        return None
    if "Timestamp" in names:
        return value.to_pydatetime(warn=False)
    if "Timedelta" in names:
        return value.to_pytimedelta()
    if "Period" in names or "Interval" in names:
        return str(value)
    if names & {"Series", "Index", "ExtensionArray"}:
        return _value(value.tolist(), where, depth)
    raise InvalidInput(f"{where}: {_type(value)} is not kept; convert it to a list or to text")


def _type(value: Any) -> str:
    cls = type(value)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"
