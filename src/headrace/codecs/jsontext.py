"""What models return as JSON text, which is always valid."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import enum
import json
import math
from typing import Any

import numpy as np

from headrace.codecs import containers, fast_json, times
from headrace.errors import BadModelOutput, shorten

# Characters of the dtypes whose elements are the numbers of Python.
_PLAIN_NUMBERS = "?bBhHiIlLqQefd"


class _NoForm(TypeError):
    """Its message names the type that has no JSON form, and quotes nothing of the value."""


def dumps(value: Any, where: str) -> bytes:
    """Compact UTF-8 JSON; NaN and infinities become null, bytes become base64 text.

    Arrays become nested lists, data frames lists of records, pydantic models their fields.

    Raises:
        BadModelOutput: some part of the value has no JSON form.
    """
    if type(value) is np.ndarray and value.dtype.char in _PLAIN_NUMBERS:
        orjson = fast_json.module()
        if orjson is not None:
            found: bytes = orjson.dumps(value.tolist())
            return found
    try:
        try:
            text = _strict(value)
        except (TypeError, ValueError):
            text = _strict(_without_nan(value))
        try:
            return text.encode("utf-8")
        except UnicodeEncodeError:
            # A lone surrogate has no UTF-8 form, but JSON can escape it.
            return json.dumps(json.loads(text)).encode("ascii")
    except _NoForm as error:
        raise BadModelOutput(f"{where}: {error}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise BadModelOutput(f"{where}: a value of the answer has no JSON form") from error


def _strict(value: Any) -> str:
    return json.dumps(
        value, default=_plain, allow_nan=False, ensure_ascii=False, separators=(",", ":")
    )


def _plain(value: Any) -> Any:
    """One step towards a type that `json` knows; called for those that it does not."""
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        # NaT is a datetime too, and the only one unequal to itself.
        return value.isoformat() if value == value else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "M":
            return times.texts_of(value).tolist()
        if value.dtype.names and not isinstance(value, np.ma.MaskedArray):
            return list(value)
        # Durations in nanoseconds would become integers, those in other units timedeltas.
        return _numbers(value).tolist()
    if isinstance(value, np.datetime64):
        return times.texts_of(np.asarray(value)).item()
    if isinstance(value, np.void) and value.dtype.names:
        return [value[name] for name in value.dtype.names]
    if isinstance(value, np.generic):
        return _numbers(value).item()
    if isinstance(value, (set, frozenset)):
        return list(value)
    return _from_library(value)


def _from_library(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if hasattr(value, "__fields_set__"):
        return value.dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "__struct_fields__"):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if hasattr(value, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in value.__attrs_attrs__}
    if isinstance(value, enum.Enum):
        return value.value
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        if not getattr(value.columns, "is_unique", True):
            raise _NoForm("a table with two columns of the same name has no JSON form")
        return value.to_dict(orient="records")
    if hasattr(value, "toarray"):
        return value.toarray().tolist()
    if hasattr(value, "to_pylist") or hasattr(value, "as_py"):
        return containers.plain(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    if type(value).__name__ == "NAType":
        return None
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    hint = "; it has to be awaited" if hasattr(value, "__await__") else ""
    raise _NoForm(f"{shorten(type(value).__name__)} has no JSON form{hint}")


def _numbers(value: Any) -> Any:
    """A numpy array or scalar with durations in seconds, and no number type that Python lacks."""
    if value.dtype.kind == "m":
        return times.seconds_of(value)
    return value.astype(np.float64) if value.dtype.char == "g" else value


def key_text(key: Any) -> str:
    """A key of a dict, or a label of a column, as a name in JSON."""
    if key is None or isinstance(key, bool):
        return json.dumps(key)
    return str(key)


def _key(key: Any) -> Any:
    return key.item() if isinstance(key, np.generic) else key


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_key(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    if value is None or isinstance(value, (str, int)):
        return value
    return _without_nan(_plain(value))
