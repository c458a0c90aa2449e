"""What is given to a runner as a request, and the answer of its model as a value."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from headrace.codecs import decode_request, encode_response
from headrace.codecs.array import array_of, tensor_of
from headrace.codecs.frame import tensor_of_series
from headrace.errors import BadModelOutput, InvalidInput
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.reserved_parameters import BATCH_DIM
from headrace.protocol.tensor import Tensor

# The server gives a lone input the name that its model has for it.
UNNAMED = "input-0"
_NUMBERED = re.compile(r"output-\d+")


def request_of(
    value: Any, method: str | None = None, batch_dim: tuple[int, int] = (0, 0)
) -> InferenceRequest:
    """The request that asks a stored model for the answer to `value`; no method is its default.

    Takes an ndarray, a DataFrame, a Series, a list, a dict of any of these, or a scalar. Rows are
    along dimension `batch_dim[0]` of every array.

    Raises:
        InvalidInput: no tensor can hold the value.
    """
    try:
        inputs, kind = _tensors(value, batch_dim[0])
    except BadModelOutput as error:
        raise InvalidInput(f"a runner's input cannot be sent: {error.message}") from error
    parameters: dict[str, Any] = {}
    # An array is what a lone input without a content type is read as, so that such requests share
    # batches with those of clients.
    if kind != "np":
        parameters["content_type"] = kind
    if any(batch_dim):
        parameters[BATCH_DIM] = list(batch_dim)
    return InferenceRequest(inputs, parameters or None, None if method is None else [method])


def value_of(response: InferenceResponse, batch_dim: tuple[int, int] = (0, 0)) -> Any:
    """The answer of a model as a Python value, most like what the model returned.

    One array, a tuple of arrays where the outputs are only numbered, a dict of arrays where they
    have names, a DataFrame, a list of text, or a JSON value.
    """
    kind = response.content_type or ("np" if len(response.outputs) == 1 else "dict")
    if kind == "np" and len(response.outputs) == 1:
        found: Any = array_of(response.outputs[0], writable=True)
        return np.moveaxis(found, 0, batch_dim[1]) if batch_dim[1] else found
    found = decode_request(InferenceRequest(response.outputs, response.parameters), kind)
    if not isinstance(found, dict):
        return found
    if batch_dim[1]:
        found = {name: np.moveaxis(item, 0, batch_dim[1]) for name, item in found.items()}
    if len(found) > 1 and all(_NUMBERED.fullmatch(name) for name in found):
        return tuple(found.values())
    return found


def _tensors(value: Any, dim: int) -> tuple[list[Tensor], str]:
    if isinstance(value, np.ndarray):
        tensor = tensor_of(UNNAMED, _rows_first(value, dim))
        return [tensor], "str" if tensor.content_type == "str" else "np"
    if hasattr(value, "iloc") and not hasattr(value, "columns"):
        tensor = tensor_of_series(UNNAMED, value)
        return [tensor], "str" if tensor.content_type == "str" else "np"
    if isinstance(value, dict) and dim:
        value = {name: _rows_first(np.asarray(item), dim) for name, item in value.items()}
    elif isinstance(value, (list, tuple)) and dim:
        value = _rows_first(np.asarray(value), dim)
    elif hasattr(value, "__array__") and not hasattr(value, "iloc"):
        # An array of another library, such as a tensor of PyTorch.
        return _tensors(np.asarray(value), dim)
    response = encode_response(value, UNNAMED)
    return response.outputs, response.content_type or "np"


def _rows_first(value: np.ndarray[Any, Any], dim: int) -> np.ndarray[Any, Any]:
    if not dim:
        return value
    if value.ndim <= dim:
        raise InvalidInput(
            f"a runner's input has {value.ndim} dimensions, but its rows are along dimension {dim} "
            "(batch_dim)"
        )
    return np.moveaxis(value, dim, 0)
