"""How often one key may call."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class TokenBucket:
    """Holds up to `burst` tokens, of which each call takes one, and gains `rate` a second."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = monotonic) -> None:
        self._rate = rate
        self._burst = self._tokens = burst
        self._clock = clock
        self._at = clock()

    def take(self) -> float:
        """Take a token; returns 0, or the seconds until there is one. Hot."""
        now = self._clock()
        tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if tokens < 1:
            self._tokens = tokens
            return (1 - tokens) / self._rate
        self._tokens = tokens - 1
        return 0.0
