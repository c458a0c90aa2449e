"""Numbers in JSON that no double can hold, which Python would read as infinity.

Standard library only.
"""

from __future__ import annotations

import math
import re

# Such a number has an exponent of three digits, or very many digits itself.
_ZEROS = bytes(48 if 48 <= each <= 57 else each for each in range(256))
_EXPONENT = re.compile(rb"[eE]\+?\d{3}")
_MANY_DIGITS = b"0" * 200


class TooLarge(ValueError):
    """A number that no double can hold."""


def digits_as_zeros(text: bytes) -> bytes:
    """The text with 0 for every digit: to look for numbers in it costs far less than to read it."""
    return text.translate(_ZEROS)


def may_be_too_large(text: bytes) -> bool:
    """Whether a text may hold such a number; others can be read without a look at each float."""
    if (b"e" in text or b"E" in text) and _EXPONENT.search(text) is not None:
        return True
    return len(text) >= len(_MANY_DIGITS) and _MANY_DIGITS in digits_as_zeros(text)


def finite(token: str) -> float:
    """The float of a token; `json.loads` takes it as `parse_float`.

    Raises:
        TooLarge: no double can hold it.
    """
    number = float(token)
    if math.isinf(number):
        raise TooLarge(token)
    return number
