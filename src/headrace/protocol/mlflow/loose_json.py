"""Fields of a body as JSON, as MLflow's clients write it; see `python_json`."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.protocol.mlflow.python_json import loads


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
