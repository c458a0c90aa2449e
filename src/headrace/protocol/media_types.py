"""Media types of raw payloads and their answers (RFC 9110 8.3.1)."""

from __future__ import annotations

import re

_TOKEN = r"[A-Za-z0-9!#$&^_.+-]+"
_PARAMETERS = r"(?:\s*;[\x20-\x7e]*)?"

# A plugin may take a whole family of types, but must name the exact type that it returns.
TAKEN = re.compile(rf"(?:\*/\*|{_TOKEN}/(?:\*|{_TOKEN})){_PARAMETERS}")
GIVEN = re.compile(rf"{_TOKEN}/{_TOKEN}{_PARAMETERS}")


def essence(media_type: str) -> str:
    """A media type without its parameters, in lower case."""
    return media_type.partition(";")[0].strip().lower()


def takes(wanted: str, given: str) -> bool:
    """Whether `given` is the type `wanted`, or belongs to a family such as `image/*` or `*/*`."""
    wanted, given = essence(wanted), essence(given)
    if given == wanted or wanted == "*/*":
        return True
    return wanted.endswith("/*") and given.startswith(wanted[:-1])
