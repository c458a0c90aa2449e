"""Converts values to input tensors: dicts of arrays or lists, DataFrames, single arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.client.client_errors import InvalidRequest
from headrace.codecs import array, frame
from headrace.errors import HeadraceError
from headrace.protocol.tensor import Tensor

# The name of a lone array when the model does not give one; such a model takes any name.
UNNAMED = "input-0"


def is_frame(value: Any) -> bool:
    """Whether the value is a pandas DataFrame, without importing pandas."""
    return _is_of_pandas(value, "DataFrame")


def is_unnamed(value: Any) -> bool:
    """Whether the value is one array or list, whose name only the model knows."""
    return not isinstance(value, Mapping) and not is_frame(value)


def tensors_of(inputs: Any, name: str = UNNAMED) -> list[Tensor]:
    """One tensor per item of a dict or column of a DataFrame; `name` is for a lone array.

    Raises:
        InvalidRequest: the protocol cannot represent a value; the message names the input.
    """
    try:
        if is_frame(inputs):
            return frame.tensors_of(inputs)
        if isinstance(inputs, Mapping):
            return [_tensor(str(key), value) for key, value in inputs.items()]
        return [_tensor(name, inputs)]
    except HeadraceError as error:
        # The codecs are written for a model's answers, and their messages say so.
        message = error.message.replace("output ", "input ").replace("the answer", "the table")
        raise InvalidRequest(message) from error


def _tensor(name: str, value: Any) -> Tensor:
    if _is_of_pandas(value, "Series"):
        return frame.tensor_of_series(name, value)
    if isinstance(value, np.ndarray):
        return array.tensor_of(name, value)
    if isinstance(value, (list, tuple)):
        return array.tensor_of(name, array.array_from(value))
    if isinstance(value, (str, bytes, int, float, np.generic)):
        return array.tensor_of(name, array.array_from([value]))
    # Tensors of other libraries turn into arrays without this module knowing those libraries.
    return array.tensor_of(name, np.asarray(value))


def _is_of_pandas(value: Any, name: str) -> bool:
    kind = type(value)
    return any(
        base.__name__ == name and base.__module__.partition(".")[0] == "pandas"
        for base in kind.__mro__
    )
