"""Inference params checked against the params schema of an MLflow signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from math import isfinite
from typing import Any

from headrace.errors import InvalidInput, listing, nearest, shorten
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.json_words import misfit, word_of
from headrace.protocol.mlflow.schema import ParamSpec
from headrace.protocol.reserved_parameters import BATCH_DIM, RESERVED, TRANSPORT

OF_THE_PROTOCOL = frozenset((*RESERVED, *TRANSPORT, BATCH_DIM))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _integer(value: Any, datatype: str) -> Any:
    kind = DATATYPES[datatype]
    assert kind.low is not None
    assert kind.high is not None
    if not _is_number(value) or value != value or value in (float("inf"), float("-inf")):
        return None
    whole = int(value)
    return whole if whole == value and kind.low <= whole <= kind.high else None


def _float(value: Any) -> Any:
    try:
        number = float(value) if _is_number(value) else None
    except OverflowError:
        return None
    # Params travel to the model as JSON, where NaN would become null.
    return number if number is not None and isfinite(number) else None


def _datetime(value: Any) -> Any:
    # Params travel as JSON: the text is checked here and stays text.
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    try:
        datetime.fromisoformat(value.replace("Z", "+00:00"))
    except (AttributeError, ValueError):
        return None
    return value


# Each returns None for a value that is not of its type.
_CONVERT: dict[str, Callable[[Any], Any]] = {
    "boolean": lambda value: value if isinstance(value, bool) else None,
    "integer": lambda value: _integer(value, "INT32"),
    "long": lambda value: _integer(value, "INT64"),
    "float": _float,
    "double": _float,
    "string": lambda value: value if isinstance(value, str) else None,
    "datetime": _datetime,
    "object": lambda value: value if isinstance(value, dict) else None,
}


def _scalar(value: Any, spec: ParamSpec, where: str) -> Any:
    convert = _CONVERT.get(spec.type)
    if value is None or convert is None:
        return value
    converted = convert(value)
    if converted is None:
        got = misfit(value, spec.type)
        raise InvalidInput(f"{where}: expected a value of type {spec.type}, got {got}")
    return converted


def unknown_params(given: Mapping[str, Any] | None, specs: list[ParamSpec]) -> list[str]:
    """The names in `given` that are neither declared nor the protocol's own."""
    if not given:
        return []
    declared = {spec.name for spec in specs}
    return [name for name in given if name not in declared and name not in OF_THE_PROTOCOL]


def refused_params(unknown: list[str], specs: list[ParamSpec]) -> InvalidInput:
    """The error for params that the model does not declare."""
    declared = [spec.name for spec in specs]
    similar = nearest(unknown[0], declared)
    hint = f"did you mean '{shorten(similar)}'?" if similar else f"it takes {listing(declared)}"
    return InvalidInput(
        f"the model has no param{'s' if len(unknown) > 1 else ''} {listing(unknown)}; {hint}"
    )


def conform_params(given: Mapping[str, Any] | None, specs: list[ParamSpec]) -> dict[str, Any]:
    """The params the model gets: those of the schema, converted, with defaults filled in.

    Names that are not in the schema are left out; `unknown_params` finds them.

    Raises:
        InvalidInput: a value does not convert without loss; the message names the param.
    """
    result = {}
    for spec in specs:
        if given is None or spec.name not in given or spec.name in RESERVED:
            result[spec.name] = spec.default
            continue
        value = given[spec.name]
        where = f"param '{shorten(spec.name)}'"
        if not spec.is_list:
            result[spec.name] = _scalar(value, spec, where)
        elif isinstance(value, (list, tuple)):
            result[spec.name] = [
                _scalar(item, spec, f"{where}, element {index:,}")
                for index, item in enumerate(value)
            ]
        else:
            got = word_of(type(value))
            raise InvalidInput(f"{where}: expected a list of {spec.type}, got {got}")
    return result
