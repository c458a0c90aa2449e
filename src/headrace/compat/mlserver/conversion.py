"""Converts values of JSON and query strings to what a handler's annotations call for.

Plain types and classes that validate themselves are handled here; everything else is left to
pydantic, where it is installed.
"""

from __future__ import annotations

import importlib
import re
import types
from collections.abc import Callable
from typing import Any, TypeVar, Union, get_args, get_origin

from headrace.codecs.hints import expanded
from headrace.compat.mlserver.types.base import FLAGS

Convert = Callable[[Any], Any]
_Kind = TypeVar("_Kind")

# `X | None` has an origin of its own, from Python 3.10 on.
UNIONS = (Union, getattr(types, "UnionType", Union))

INTEGER = re.compile(r"[+-]?[0-9]{1,40}")


def converter(annotation: Any) -> Convert:
    """A function that converts a plain value to that type; it raises ValueError.

    Raises:
        TypeError: nothing can be converted to that type.
    """
    annotation = expanded(annotation)
    if annotation is Any or annotation is object:
        return _same
    if annotation in PLAIN:
        return PLAIN[annotation]
    if callable(getattr(annotation, "model_validate", None)):
        return lambda value: _validated(annotation.model_validate, value)
    if callable(getattr(annotation, "parse_obj", None)):
        return lambda value: _validated(annotation.parse_obj, value)
    made = _generic(get_origin(annotation), get_args(annotation))
    return made or _by_pydantic(annotation)


def is_body(annotation: Any) -> bool:
    """Whether a parameter of that type is read from the body by default."""
    annotation = expanded(annotation)
    if get_origin(annotation) in UNIONS:
        return any(map(is_body, get_args(annotation)))
    kind = get_origin(annotation) or annotation
    if not isinstance(kind, type):
        return False
    validates = hasattr(kind, "model_validate") or hasattr(kind, "parse_obj")
    collects = issubclass(kind, (dict, list, tuple, set, frozenset, bytes))
    return validates or collects or hasattr(kind, "__dataclass_fields__")


def _same(value: Any) -> Any:
    return value


def _integer(value: Any) -> int:
    if isinstance(value, str) and INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return _instance(value, int, "an integer")


def _number(value: Any) -> float:
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise ValueError("expected a number") from None
    return _instance(value, float, "a number")


def _flag(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in FLAGS:
        return FLAGS[value.lower()]
    return _instance(value, bool, "true or false")


def _text(value: Any) -> str:
    return _instance(value, str, "text")


def _bytes(value: Any) -> bytes:
    return value.encode("utf-8") if isinstance(value, str) else _instance(value, bytes, "text")


def _list(value: Any) -> list[Any]:
    return _instance(value, list, "a list")


def _dict(value: Any) -> dict[str, Any]:
    return _instance(value, dict, "an object")


def _nothing(value: Any) -> None:
    if value is not None:
        raise ValueError("expected null")


PLAIN: dict[Any, Convert] = {
    int: _integer,
    float: _number,
    bool: _flag,
    str: _text,
    bytes: _bytes,
    list: _list,
    dict: _dict,
    type(None): _nothing,
}


def _instance(value: Any, kind: type[_Kind], expected: str) -> _Kind:
    # A bool is an int in Python, but not a number in JSON.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"expected {expected}")
    return value


def _validated(validate: Convert, value: Any) -> Any:
    try:
        return validate(value)
    except TypeError:
        # What `**` raises for a value that is not a dict.
        raise ValueError("expected an object with the fields of the type") from None


def _generic(origin: Any, arguments: tuple[Any, ...]) -> Convert | None:
    if origin is list and len(arguments) == 1:
        item = converter(arguments[0])
        return lambda value: [item(each) for each in _list(value)]
    if origin is dict and len(arguments) == 2 and arguments[0] in (str, Any):
        of_value = converter(arguments[1])
        return lambda value: {key: of_value(each) for key, each in _dict(value).items()}
    if origin in UNIONS and len(arguments) == 2 and type(None) in arguments:
        wanted = converter(next(item for item in arguments if item is not type(None)))
        return lambda value: None if value is None else wanted(value)
    return None


def _by_pydantic(annotation: Any) -> Convert:
    try:
        adapter: Any = importlib.import_module("pydantic").TypeAdapter(annotation)
    except (ImportError, AttributeError):
        raise TypeError("its type needs pydantic 2 in the model's environment") from None
    except Exception as error:
        raise TypeError("its type cannot be read from a request") from error
    convert: Convert = adapter.validate_python
    return convert
