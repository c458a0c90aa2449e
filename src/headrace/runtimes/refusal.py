"""Distinguishes input that a model refuses, which is the caller's fault, from its failures."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from headrace.errors import InvalidInput


def call(predict: Callable[[Any], Any], value: Any) -> Any:
    """Call a method of an estimator.

    Raises:
        InvalidInput: it raised ValueError, and the input has no rows, or holds NaN or infinity.
    """
    try:
        return predict(value)
    except ValueError as error:
        if len(getattr(value, "shape", ())) and not value.shape[0]:
            raise InvalidInput("the input has no rows, which this model does not take") from error
        if _is_finite(value):
            raise
        raise InvalidInput(
            "the input holds NaN (null) or infinity, which this model does not take"
        ) from error


def _is_finite(value: Any) -> bool:
    # The columns of a table may have different types.
    columns = [value[name] for name in value.columns] if hasattr(value, "columns") else [value]
    arrays = [np.asarray(column) for column in columns]
    return all(np.isfinite(array).all() for array in arrays if array.dtype.kind in "fc")
