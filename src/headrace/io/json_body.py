"""JSON texts that clients sent: strictly what RFC 8259 allows, and where a text is not that."""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from typing import Any, Callable

from headrace.codecs import fast_json
from headrace.errors import InvalidInput
from headrace.io.descriptor import text_of
from headrace.protocol.json_floats import TooLarge, digits_as_zeros, finite, may_be_too_large

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# An integer with as many digits may have more than 64 bits.
_MANY_DIGITS = b"0" * 19
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?(?:Infinity|NaN|\d[\d.eE+-]*)')


class _Refused(ValueError):
    """A token that Python's parser would accept."""


def loads(body: bytes, where: str) -> Any:
    """The value of a JSON text in UTF-8; `where` names the text.

    Raises:
        InvalidInput: it is empty, not UTF-8 or not JSON, which includes NaN and Infinity, or holds
            a number that no float64 can. The message gives the line and the column, counted from
            1, and the byte, counted from 0.
    """
    if not body:
        raise InvalidInput(f"{where} is empty, expected JSON")
    if body.startswith(_BYTE_ORDER_MARK):
        # Programs on Windows write it. Spaces keep the positions that messages give right.
        body = b"   " + body[len(_BYTE_ORDER_MARK) :]
    # It would make floats of integers beyond 64 bits, which are refused where they are used.
    orjson = fast_json.module()
    if orjson is not None and _MANY_DIGITS not in digits_as_zeros(body):
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(body)
        # What is wrong, and where, is said below.
    text = text_of(body, where)
    try:
        parse_float = finite if may_be_too_large(body) else None
        return json.loads(text, parse_constant=_refuse, parse_float=parse_float)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{where} is not valid JSON: {_syntax(text, error.pos)}") from None
    except (_Refused, TooLarge):
        raise InvalidInput(_token_fault(text, where)) from None
    except RecursionError:
        raise InvalidInput(f"{where} is nested too deeply") from None
    except ValueError:
        # Python limits the digits of an integer.
        place = _place(text, _first(text, lambda token: len(token) > 4000))
        raise InvalidInput(f"{where}: an integer has too many digits, at {place}") from None


def _refuse(token: str) -> Any:
    raise _Refused(token)


def _syntax(text: str, position: int) -> str:
    if position >= len(text.rstrip()):
        return f"it ends too early, at {_place(text, position)}"
    return f"the fault is at {_place(text, position)}"


def _token_fault(text: str, where: str) -> str:
    position = _first(text, lambda token: token.lstrip("-")[0] in "IN")
    if position < len(text):
        what = "NaN and Infinity are not JSON; send null for a missing number"
        return f"{where} is not valid JSON: {what}; found at {_place(text, position)}"
    position = _first(text, lambda token: token[0] != '"' and math.isinf(float(token)))
    return f"{where}: a number is out of range of float64, at {_place(text, position)}"


def _first(text: str, wanted: Callable[[str], bool]) -> int:
    """Where the first wanted number or constant begins; the text's length if there is none."""
    found = (token.start() for token in _TOKEN.finditer(text) if wanted(token[0]))
    return next(found, len(text))


def _place(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return f"line {line}, column {column} (byte {len(text[:position].encode('utf-8'))})"
