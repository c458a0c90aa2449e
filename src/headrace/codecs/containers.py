"""Containers whose buffer is not their meaning: numpy reads past their masks, labels and types.

Known by what they have, so that a model's environment needs none of their libraries.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

_ITSELF = frozenset((bool, int, float, str, bytes, type(None)))


def series_of(value: Any) -> Any:
    """An extension array or index of pandas, or an array of Arrow, as a Series; otherwise None."""
    if hasattr(value, "to_pylist") and not hasattr(value, "schema"):
        return _pandas_of(value)
    pandas = sys.modules.get("pandas")
    if pandas is None or isinstance(value, np.ndarray):
        return None
    if isinstance(value, pandas.MultiIndex):
        return None
    if isinstance(value, (pandas.api.extensions.ExtensionArray, pandas.Index)):
        return pandas.Series(value)
    return None


def frame_of(value: Any) -> Any:
    """A table or record batch of Arrow as a DataFrame; otherwise None."""
    return _pandas_of(value) if hasattr(value, "to_pylist") and hasattr(value, "schema") else None


def is_plain(value: Sequence[Any]) -> bool:
    """Whether all elements are numbers, text and the like of Python itself."""
    return set(map(type, value)) <= _ITSELF


def plain(value: Any) -> Any:
    """What numpy would misread inside a list, as Python's own values; anything else as it is."""
    if type(value) in _ITSELF:
        return value
    if isinstance(value, (list, tuple)):
        return value if is_plain(value) else [plain(item) for item in value]
    if isinstance(value, np.ma.MaskedArray):
        return None if value is np.ma.masked else value.tolist()
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if hasattr(value, "to_pylist"):
        return value.to_pylist()
    if hasattr(value, "as_py"):
        return value.as_py()
    if hasattr(value, "iloc") and getattr(getattr(value, "columns", None), "is_unique", False):
        return value.to_dict(orient="records")
    return value


def exact_array(value: Any) -> np.ndarray[Any, Any]:
    """The array that numpy makes of a value, but of objects where it would change integers.

    What is missing or masked is None there, and NaN among floats.

    Raises:
        TypeError, ValueError: numpy makes none.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        if value.dtype.names:
            raise TypeError("fields may be masked one by one")
        cells = np.asarray(value).astype(value.dtype if value.dtype.kind == "f" else object)
        cells[np.ma.getmaskarray(value)] = np.nan if value.dtype.kind == "f" else None
        return cells
    if isinstance(value, (list, tuple)):
        value = plain(value)
        found: np.ndarray[Any, Any] = np.asarray(value)
        if found.dtype.kind == "f":
            objects = np.asarray(value, dtype=object)
            return objects if set(map(type, objects.flat)) == {int} else found
        return found
    series = value if hasattr(value, "iloc") and hasattr(value, "dtype") else series_of(value)
    if series is not None and not isinstance(series.dtype, np.dtype) and series.isna().any():
        cells = series.astype(object).to_numpy(copy=True)
        cells[series.isna().to_numpy()] = None
        return np.asarray(cells)
    return np.asarray(value if series is None else series)


def _pandas_of(value: Any) -> Any:
    """What Arrow holds, with the types that it has there."""
    import pandas as pd

    return value.to_pandas(types_mapper=pd.ArrowDtype)
