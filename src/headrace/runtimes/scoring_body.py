"""MLflow's scoring bodies for models that are not MLflow's: every model answers `/invocations`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.codecs.array import tensor_of
from headrace.codecs.frame import tensors_of
from headrace.errors import InvalidInput
from headrace.protocol.messages import InferenceRequest, TensorMetadata
from headrace.runtimes.mlflow.scoring_payload import Payload


def as_request(request: InferenceRequest, inputs: list[TensorMetadata]) -> InferenceRequest:
    """Rewrite a raw scoring body as the tensors of the same request over `/v2`.

    A table becomes one input per column, a dict one input per key, and an array the model's
    only input, whatever its name; `params` become the request's parameters.

    Raises:
        InvalidInput: the body is malformed, or holds values that no tensor can.
    """
    value, params = Payload(None, {}, _untyped).decode(request)
    content_type = None
    if hasattr(value, "columns") and value.columns.inferred_type == "integer":
        # Columns without names are a matrix: a model trained on a matrix knows no names.
        value = value.to_numpy()
    if hasattr(value, "columns"):
        tensors, content_type = tensors_of(value), "pd"
    elif isinstance(value, dict):
        tensors = [tensor_of(str(name), np.asarray(item)) for name, item in value.items()]
    elif len(inputs) > 1:
        names = ", ".join(tensor.name for tensor in inputs[:10])
        raise InvalidInput(f"the model has several inputs, name them: {names}")
    else:
        name = inputs[0].name if inputs else "input-0"
        tensors, content_type = [tensor_of(name, np.asarray(value))], "np"
    parameters = dict(params or {})
    if content_type is not None:
        parameters["content_type"] = content_type
    return InferenceRequest(
        tensors, parameters or None, request.outputs, request.id, request.context
    )


def _untyped(request: InferenceRequest) -> Any:
    raise AssertionError("without a signature there is nothing to conform to; this is a bug")
