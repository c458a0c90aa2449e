"""JSON as MLflow's clients write it with Python: NaN and Infinity may stand for numbers.

Standard library only, because workers read bodies too.
"""

from __future__ import annotations

import json
from typing import Any

from headrace.errors import MalformedBody
from headrace.protocol.json_floats import TooLarge, finite, may_be_too_large

# What both halves of a pair begin with.
_SURROGATES = (b"\\ud", b"\\uD")


def loads(text: bytes) -> Any:
    """Decode JSON that may hold NaN and Infinity; numbers too large for a double are refused.

    Raises:
        MalformedBody: the message says what is wrong and where, and never quotes the text.
    """
    try:
        return json.loads(text, parse_float=finite if may_be_too_large(text) else None)
    except json.JSONDecodeError as error:
        raise MalformedBody(f"the body is not valid JSON at character {error.pos}") from None
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not valid UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise MalformedBody("the body is not acceptable JSON: it nests too deeply") from None
    except TooLarge:
        raise MalformedBody("the body holds a number too large for a double") from None
    except ValueError:
        raise MalformedBody("the body is not acceptable JSON: a number is too long") from None


def check_text(value: Any, text: bytes) -> None:
    """Check that what was decoded from a text has no half of a surrogate pair.

    It is no character, and neither pandas nor an answer can hold it.

    Raises:
        MalformedBody: it has.
    """
    if any(escape in text for escape in _SURROGATES):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise MalformedBody("the body holds text with half of a surrogate pair") from None
