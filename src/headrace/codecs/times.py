"""The one form that times and durations have in answers."""

from __future__ import annotations

from typing import Any

import numpy as np

# A month is written as its first day, and an hour with its minutes and seconds.
_UNITS = {"Y": "D", "M": "D", "W": "D", "h": "s", "m": "s"}


def texts_of(times: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Times of numpy as ISO 8601 text, None for NaT or if masked, in an array of the same shape.

    Days have no time of day; a fraction of a second has six or nine digits.
    """
    if isinstance(times, np.ma.MaskedArray):
        times = times.filled(np.datetime64("NaT"))
    unit = np.datetime_data(times.dtype)[0]
    if unit in _UNITS:
        times = times.astype(f"datetime64[{_UNITS[unit]}]")
    texts = np.array(np.datetime_as_string(times), dtype=object)
    for place, text in enumerate(texts.flat):
        texts.flat[place] = _isoformat(text)
    texts[np.isnat(times)] = None
    return texts


def seconds_of(durations: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Durations of numpy, of whatever unit, as numbers of seconds; NaT is NaN."""
    seconds: np.ndarray[Any, Any] = durations / np.timedelta64(1, "s")
    return seconds


def _isoformat(text: str) -> str:
    """The time with a fraction of no, six or nine digits, as datetime and pandas write it."""
    head, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    if not fraction:
        return head
    return f"{head}.{fraction.ljust(6 if len(fraction) <= 6 else 9, '0')}"
