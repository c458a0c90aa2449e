"""What a caller says about a request: its id and its time limit."""

from __future__ import annotations

import re
from itertools import count
from secrets import token_hex

from headrace.errors import InvalidInput, shorten

SECONDS = re.compile(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.ASCII | re.IGNORECASE)
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,256}")


class RequestIds:
    """The id of each request: the caller's own if it is usable, otherwise a generated one."""

    def __init__(self) -> None:
        self._prefix = token_hex(4)
        self._numbers = count(1)

    def of(self, given: str | None) -> str:
        """Printable ASCII, at most 256 characters. Hot."""
        if given is not None and REQUEST_ID.fullmatch(given):
            return given
        return f"{self._prefix}-{next(self._numbers):x}"


def seconds_given(text: str) -> float:
    """The time that a caller gives a request, as the header `X-Request-Timeout` states it.

    Raises:
        InvalidInput: it is not a number of seconds above 0.
    """
    seconds = float(text) if SECONDS.fullmatch(text.strip()) else 0.0
    if not 0 < seconds < 1e9:
        raise InvalidInput(
            "X-Request-Timeout: expected a number of seconds above 0 and below 1e9, "
            f"got '{shorten(text, 24)}'"
        )
    return seconds
