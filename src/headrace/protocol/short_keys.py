"""Remembers what is made of short texts that come again and again, such as media types."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

# Callers choose the texts: long ones must not fill the memory.
LONGEST = 256


def remember_short(entries: int) -> Callable[[Callable[[Any], T]], Callable[[Any], T]]:
    """A function of one text, str or bytes, with what it returned for that many short ones. Hot."""

    def decorate(function: Callable[[Any], T]) -> Callable[[Any], T]:
        known = functools.lru_cache(entries)(function)

        @functools.wraps(function)
        def call(text: Any) -> T:
            return known(text) if len(text) <= LONGEST else function(text)

        call.known = known  # type: ignore[attr-defined]
        return call

    return decorate
