"""JSON for the log of the front process, which writes many lines.

Not imported by workers, whose environments need not have orjson.
"""

from __future__ import annotations

from typing import Any

import orjson

from headrace.observability import logs


def dumps(line: dict[str, Any]) -> str:
    """The same as `logs.dumps`, several times faster."""
    try:
        text = orjson.dumps(line, default=str)
    except orjson.JSONEncodeError:
        return logs.dumps(line)
    # Some of the characters that only `logs.dumps` escapes end a line for some readers.
    return text.decode() if text.isascii() else logs.dumps(line)
