"""Models whose rows are not along the first dimension of their arrays.

Requests are merged along the first, so a runner moves the rows there and says in a parameter
where they belong; here they are moved back for the model, and out again for the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import numpy as np

from headrace.codecs.array import array_of, tensor_of
from headrace.errors import BadModelOutput, InvalidInput, shorten
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.reserved_parameters import BATCH_DIM
from headrace.protocol.tensor import Tensor


def infer(
    request: InferenceRequest, answer: Callable[[InferenceRequest], InferenceResponse]
) -> InferenceResponse:
    """Answer a request whose parameter `batch_dim` holds the dimensions of rows, in and out.

    Raises:
        InvalidInput: the parameter is not two dimensions that an input has.
        BadModelOutput: an output does not have the dimension.
    """
    parameters = dict(request.parameters or {})
    dim_in, dim_out = _dimensions(parameters.pop(BATCH_DIM))
    inputs = [_moved(tensor, 0, dim_in, InvalidInput, "input") for tensor in request.inputs]
    response = answer(
        InferenceRequest(inputs, parameters or None, request.outputs, request.id, request.context)
    )
    outputs = [_moved(tensor, dim_out, 0, BadModelOutput, "output") for tensor in response.outputs]
    return InferenceResponse(outputs, response.parameters, response.form)


def _dimensions(given: Any) -> Sequence[int]:
    if not isinstance(given, list) or len(given) != 2:
        raise InvalidInput(f"{BATCH_DIM}: expected two dimensions, of the inputs and the outputs")
    if not all(type(item) is int and 0 <= item < 32 for item in given):
        raise InvalidInput(f"{BATCH_DIM}: expected two dimensions, counted from 0")
    return given


def _moved(tensor: Tensor, source: int, target: int, error: Any, what: str) -> Tensor:
    if source == target:
        return tensor
    if len(tensor.shape) <= max(source, target):
        raise error(
            f"{what} '{shorten(tensor.name)}' has {len(tensor.shape)} dimensions, but its rows are "
            f"along dimension {max(source, target)}"
        )
    moved = np.ascontiguousarray(np.moveaxis(array_of(tensor), source, target))
    result = tensor_of(tensor.name, moved)
    if tensor.parameters:
        result.parameters = {**(result.parameters or {}), **tensor.parameters}
    return result
