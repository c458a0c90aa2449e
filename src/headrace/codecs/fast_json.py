"""orjson where it is installed: a model's environment need not have it.

Whoever uses it has a slower way to the same result. It is imported when it is first used.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def module() -> Any:
    """The module, or None."""
    try:
        import orjson
    except ImportError:
        return None
    return orjson
