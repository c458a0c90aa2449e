"""Which requests may run together, and how a batch is merged and split. Pure functions.

Two requests may share a batch only when everything but the number of rows is equal: input names,
datatypes, trailing shapes, parameters of the request and of its tensors, and requested outputs.
Headers may differ: the batch keeps those that all its requests share.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import prod
from typing import Any

from headrace.errors import BadModelOutput
from headrace.protocol import batch_answer
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.mlflow.signature import SCORING
from headrace.protocol.reserved_parameters import BATCH_DIM, PYTHON_VALUE
from headrace.protocol.tensor import Tensor

# Bytes of text from which on an answer is split in a thread: 64,000 texts at most are below it,
# which take ten milliseconds.
MANY_TEXTS = 256 * 1024
# Errors of a batch for which one of its requests may be to blame: all that a model can answer.
OF_ONE_REQUEST = (
    "model_error", "invalid_argument", "malformed_body", "unauthenticated", "forbidden",
    "not_found", "conflict", "rate_limited", "unimplemented", "answer_too_large",
)  # fmt: skip


def rows(request: InferenceRequest) -> int | None:
    """The number of rows all inputs agree on, or None when the request cannot be merged.

    A raw scoring body is one tensor of one element, but holds any number of rows. A JSON value is
    one too, and so is what a runner marks as whole.
    """
    parameters = request.parameters
    if parameters and (
        parameters.get("content_type") in (SCORING, "json")
        or (PYTHON_VALUE in parameters and "whole" in parameters[PYTHON_VALUE])
    ):
        return None
    count: int | None = None
    for tensor in request.inputs:
        shape = tensor.shape
        if not shape or (count is not None and shape[0] != count):
            return None
        count = shape[0]
    return count or None


def stays_alone(request: InferenceRequest, unbatched: frozenset[str]) -> bool:
    """Whether a request is for an output of `unbatched`, in which `""` is none by name.

    A request that says where its rows are (`batch_dim`) is for one that can be merged after all.
    """
    if request.parameters and BATCH_DIM in request.parameters:
        return False
    return any(name in unbatched for name in request.outputs or ("",))


def most_rows(request: InferenceRequest, sizes: Mapping[str, int], general: int) -> int:
    """The most rows in a batch of requests like this; `sizes` has the outputs with lower limits."""
    return min(sizes.get(name, general) for name in request.outputs or ("",))


def batches_until(own_rows: int, most_rows: int, groups: int, all_rows: int) -> int:
    """The most batches that go out until a group has sent `own_rows`, its last batch included.

    `groups`, which take turns, have `all_rows` together, and `most_rows` fit into a batch.
    """
    own = -(-own_rows // most_rows)
    return min(own * groups, groups + all_rows // most_rows)


def key(request: InferenceRequest) -> Hashable:
    """Equal for two requests exactly when they may share a batch. Hot."""
    found: list[Hashable] = []
    for tensor in request.inputs:
        parameters = tensor.parameters
        found += (tensor.name, tensor.datatype, tuple(tensor.shape[1:]))
        found.append(repr(parameters) if parameters else None)
    if request.parameters:
        found.append(repr(sorted(request.parameters.items())))
    if request.outputs:
        found.append(tuple(request.outputs))
    return tuple(found)


def merge(requests: Sequence[InferenceRequest]) -> InferenceRequest:
    """One request with the rows of all of them, in order. Their keys must be equal."""
    first = requests[0]
    if len(requests) == 1:
        return first
    merged = []
    for index, tensor in enumerate(first.inputs):
        parts = [request.inputs[index] for request in requests]
        shape = [sum(part.shape[0] for part in parts), *tensor.shape[1:]]
        data = b"".join([part.data for part in parts])
        merged.append(Tensor(tensor.name, tensor.datatype, shape, data, tensor.parameters))
    ids = ",".join([request.id for request in requests[:8]])
    context = None if first.context is None else _common_context(requests)
    return InferenceRequest(merged, first.parameters, first.outputs, ids, context)


def _common_context(requests: Sequence[InferenceRequest]) -> dict[str, Any]:
    """What all contexts share, header by header: no caller's headers reach another request."""
    contexts = [request.context or {} for request in requests]
    headers = _common([context.get("headers", {}) for context in contexts])
    return {**_common(contexts), "headers": headers}


def _common(dicts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first, *others = dicts
    return {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in others)
    }


def splits_slowly(batch: Sequence[Any], response: InferenceResponse) -> bool:
    """Whether to split an answer is too much for the event loop: each text in it is looked at."""
    if len(batch) == 1:
        return False
    texts = [len(tensor.data) for tensor in response.outputs if tensor.datatype == "BYTES"]
    return sum(texts) >= MANY_TEXTS


def split(response: InferenceResponse, counts: Sequence[int]) -> list[InferenceResponse]:
    """Give each request its rows of the merged answer.

    Raises:
        BadModelOutput: an output does not have as many rows as the batch, or not the bytes of its
            shape, so its rows cannot be assigned to requests.
    """
    total = sum(counts)
    for tensor in response.outputs:
        if not tensor.shape or tensor.shape[0] != total:
            raise BadModelOutput(
                f"output '{tensor.name}' has shape {list(tensor.shape)} for {total} batched rows; "
                "set max_batch_size to 1 for a model whose answers are not one row per input row"
            )
        kind = DATATYPES.get(tensor.datatype)
        if kind is None or (kind.itemsize and tensor.nbytes != prod(tensor.shape) * kind.itemsize):
            raise BadModelOutput(
                f"output '{tensor.name}' has {tensor.nbytes} bytes, which do not fit shape "
                f"{list(tensor.shape)} and datatype {tensor.datatype}"
            )
    return batch_answer.parts(response, counts)
