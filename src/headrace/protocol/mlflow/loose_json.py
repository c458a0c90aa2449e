"""JSON as MLflow's clients write it: NaN and Infinity may stand for numbers."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from headrace.errors import MalformedBody


def load(value: Any) -> Any:
    """Decode a raw JSON field; values that are already decoded pass through.

    Raises:
        MalformedBody: the text is not JSON, even loosely.
    """
    if not isinstance(value, msgspec.Raw):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return loads(bytes(value))


def loads(text: bytes) -> Any:
    """Decode JSON that may hold NaN and Infinity; numbers too large for a double are refused.

    Raises:
        MalformedBody: the message says what is wrong and where, and never quotes the text.
    """
    try:
        return json.loads(text, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise MalformedBody(f"the body is not valid JSON at character {error.pos}") from None
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not valid UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise MalformedBody("the body is not acceptable JSON: it nests too deeply") from None
    except ValueError:
        raise MalformedBody("the body is not acceptable JSON: a number is too long") from None


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise MalformedBody("the body holds a number too large for a double")
    return number
