"""JSON as MLflow's clients write it with Python: NaN and Infinity may stand for numbers.

Standard library only, because workers read bodies too.
"""

from __future__ import annotations

import json
import re
from typing import Any

from headrace.errors import MalformedBody

# Numbers without any of these are not too large for a double; looking at each one takes time.
_MAY_BE_TOO_LARGE = re.compile(rb"[eE]\+?\d{3}|\d{200}")


def loads(text: bytes) -> Any:
    """Decode JSON that may hold NaN and Infinity; numbers too large for a double are refused.

    Raises:
        MalformedBody: the message says what is wrong and where, and never quotes the text.
    """
    parse_float = _finite if _MAY_BE_TOO_LARGE.search(text) else None
    try:
        return json.loads(text, parse_float=parse_float)
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
