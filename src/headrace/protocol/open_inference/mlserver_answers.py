"""Answers as clients of MLServer read them; see docs/decisions/0024."""

from __future__ import annotations

from headrace.protocol.messages import InferenceResponse
from headrace.protocol.tensor import Tensor, as_column

# Requests and answers of these content types have no content type for each column of numbers.
TABLE = "pd"
ARRAY = "np"
TEXT = "str"


def as_of_mlserver(response: InferenceResponse, content_typed: bool) -> InferenceResponse:
    """The answer with `parameters`, `[N, 1]` for vectors, and a content type for each output.

    The answer keeps a content type of its own only if it is `content_typed`.
    """
    parameters = dict(response.parameters or {})
    is_table = parameters.get("content_type") == TABLE
    if not content_typed:
        parameters.pop("content_type", None)
    outputs = [_output(tensor, is_table) for tensor in response.outputs]
    return InferenceResponse(outputs, parameters)


def _output(tensor: Tensor, is_table: bool) -> Tensor:
    shape = as_column(tensor.shape)
    parameters = tensor.parameters
    if tensor.content_type is None and not is_table:
        kind = TEXT if tensor.datatype == "BYTES" else ARRAY
        parameters = {**(parameters or {}), "content_type": kind}
    return Tensor(tensor.name, tensor.datatype, shape, tensor.data, parameters)
