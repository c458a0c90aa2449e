"""Which requests a canary gets: by who asks, or evenly spaced. Pure."""

from __future__ import annotations

from hashlib import blake2b

# Shares are compared in 64 bits.
WHOLE = 1 << 64
_MASK = WHOLE - 1
# 2^64 divided by the golden ratio: of all steps, this one spreads any number of points most evenly.
_STEP = 0x9E3779B97F4A7C15


def threshold(percent: float) -> int:
    """The number that the points of this percentage of all requests are below."""
    return round(min(max(percent, 0.0), 100.0) / 100 * WHOLE)


def salt(registered: str, version: str) -> bytes:
    """What makes the callers of each rollout others than those of the one before."""
    return b"%b\0%b\0" % (registered.encode(), version.encode())


def point(salt: bytes, key: str) -> int:
    """The place of a caller, which is the same on every replica and never changes.

    A canary has the callers below its `threshold`: growing the percentage only adds some.
    """
    digest = blake2b(salt + key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class Spacing:
    """The places of requests that say nothing of their caller, one after the other.

    Of any number of requests in a row, the share below a threshold is exact but for one or two.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last = (self._last + _STEP) & _MASK
        return self._last
