"""BF16, which numpy lacks: the upper half of a 32-bit float, kept as 16 bits."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

MAX_BFLOAT16 = float(2**128 - 2**120)
_NAN = 0x7FC0


def from_bfloat16(bits: Array) -> Array:
    """The same numbers as 32-bit floats."""
    return (bits.astype("<u4") << 16).view("<f4")


def to_bfloat16(values: Array) -> Array:
    """The bits of the nearest numbers to 64-bit floats, ties to even; beyond them is infinity."""
    single = values.astype("<f4")
    bits = single.view("<u4")
    # First towards zero, with a last bit that says that there was more: to round twice to the
    # nearest is not always to round to the nearest.
    bits = bits - (np.abs(single) > np.abs(values))
    bits = (bits | (single != values)).astype("<u4")
    halves = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return np.where(np.isnan(values), np.uint16(_NAN), halves).astype("<u2")
