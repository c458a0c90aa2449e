"""The JSON of frames: by orjson where it is installed, which it need not be."""

from __future__ import annotations

import json
from typing import Any, Callable

from headrace.codecs import fast_json

orjson = fast_json.module()


def _plain(value: Any) -> Any:
    # numpy's numbers and arrays become plain ones.
    return value.tolist() if hasattr(value, "tolist") else str(value)


_encode = json.JSONEncoder(
    default=_plain, separators=(",", ":"), allow_nan=False, ensure_ascii=False
).encode


def _dump_plainly(meta: Any) -> bytes:
    try:
        text = _encode(meta)
    except ValueError:
        loose = json.dumps(meta, default=_plain)
        text = _encode(json.loads(loose, parse_constant=lambda _: None))
    return text.encode("utf-8", "replace")


def dump(meta: Any) -> bytes:
    """Strict JSON: the front's parser accepts neither NaN nor half of a surrogate pair."""
    if orjson is None:
        return _dump_plainly(meta)
    try:
        text: bytes = orjson.dumps(meta, _plain, _OPTIONS)
    except TypeError:
        # A key that is not text, a number of many digits, or half of a surrogate pair.
        return _dump_plainly(meta)
    return text


load: Callable[[Any], Any] = json.loads
if orjson is not None:
    load = orjson.loads
    # What json does not know becomes text here as well.
    _OPTIONS = (
        orjson.OPT_PASSTHROUGH_DATACLASS
        | orjson.OPT_PASSTHROUGH_DATETIME
        | orjson.OPT_PASSTHROUGH_SUBCLASS
    )
