"""The id of a request, which goes into logs and headers."""

from __future__ import annotations

import re

from headrace.errors import InvalidInput

MAX_LENGTH = 256
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def checked_id(id: str) -> str:
    """The id as it is.

    Raises:
        InvalidInput: it is too long, or has characters that would break a line of a log.
    """
    if len(id) > MAX_LENGTH:
        raise InvalidInput(f"id has {len(id)} characters, at most {MAX_LENGTH} allowed")
    if _CONTROL.search(id):
        raise InvalidInput("id has control characters")
    return id
