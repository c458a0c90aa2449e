"""Takes an exact share of a sequence."""

from __future__ import annotations

# 2**64 divided by the golden ratio. The multiples of no other number fill the circle as evenly, and
# they are in step with nothing that repeats, such as callers who take turns.
_STEP = 0x9E3779B97F4A7C15
_CIRCLE = 1 << 64


class EvenShare:
    """Takes `share` of what comes, from 0 to 1, spread evenly: any stretch has about as many."""

    def __init__(self, share: float) -> None:
        self._below = round(share * _CIRCLE)
        self._at = 0

    def takes_next(self) -> bool:
        """Whether the next one belongs to the share. Hot."""
        self._at = (self._at + _STEP) % _CIRCLE
        return self._at < self._below
