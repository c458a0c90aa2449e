"""The classification extension: the highest elements of an output as texts.

Source: Triton's "Classification extension" of the protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from headrace.errors import InvalidInput, shorten
from headrace.protocol.bfloat16 import from_bfloat16
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.json_words import written
from headrace.protocol.messages import InferenceResponse, ModelMetadata
from headrace.protocol.tensor import Parameters, Tensor, pack_bytes

PARAMETER = "classification"
# Of an output's metadata: the names of its classes, by index.
LABELS = "labels"

Array = np.ndarray[Any, Any]


def read_counts(outputs: Iterable[tuple[str, Parameters | None]]) -> dict[str, int]:
    """How many classes are wanted of each output, from the parameters of the requested outputs.

    Raises:
        InvalidInput: a number of classes is not a whole number of at least 0.
    """
    counts = {}
    for name, parameters in outputs:
        value = parameters.get(PARAMETER) if parameters else None
        if value is None:
            continue
        if type(value) is not int or value < 0:
            raise InvalidInput(
                f"output '{shorten(name)}': parameter {PARAMETER}: expected the number of classes, "
                f"got {written(value)}"
            )
        if value:
            counts[name] = value
    return counts


def classify(
    response: InferenceResponse, counts: Mapping[str, int], metadata: ModelMetadata
) -> InferenceResponse:
    """The answer with the outputs in `counts` as texts `value:index` or `value:index:label`.

    The first dimension of an output is its rows, and all others together are its classes; an
    output of one dimension is one row. The classes of a row are in falling order, equal ones and
    NaN, which is lower than all numbers, by index. Labels are those of the model's metadata.

    Raises:
        InvalidInput: an output does not hold numbers.
    """
    labels = {each.name: each.parameters.get(LABELS) or () for each in metadata.outputs}
    outputs = [
        _classified(tensor, counts[tensor.name], labels.get(tensor.name, ()))
        if tensor.name in counts
        else tensor
        for tensor in response.outputs
    ]
    return InferenceResponse(outputs, response.parameters, response.form)


def _classified(tensor: Tensor, count: int, labels: Sequence[Any]) -> Tensor:
    values = _rows(tensor)
    width = values.shape[1]
    count = min(count, width)
    # Sorting from the end keeps equal ones in order once the result is read from its end.
    ranked = width - 1 - np.argsort(_sortable(values)[:, ::-1], axis=1, kind="stable")
    indices = ranked[:, ::-1][:, :count]
    highest = np.take_along_axis(values, indices, axis=1)
    texts = [
        _text(value, index, labels)
        for value, index in zip(highest.ravel(), indices.ravel().tolist(), strict=True)
    ]
    shape = [count] if len(tensor.shape) < 2 else [values.shape[0], count]
    return Tensor(tensor.name, "BYTES", shape, pack_bytes(texts))


def _rows(tensor: Tensor) -> Array:
    kind = DATATYPES[tensor.datatype]
    if not (kind.is_integer or kind.is_float):
        raise InvalidInput(
            f"output '{shorten(tensor.name)}': parameter {PARAMETER} needs numbers, the model "
            f"answers {kind.name}"
        )
    values = np.frombuffer(tensor.data, kind.numpy)
    if kind.name == "BF16":
        values = from_bfloat16(values)
    if len(tensor.shape) < 2:
        return values.reshape(1, -1)
    return values.reshape(tensor.shape[0], prod(tensor.shape[1:]))


def _sortable(values: Array) -> Array:
    return np.where(np.isnan(values), -np.inf, values) if values.dtype.kind == "f" else values


def _text(value: Any, index: int, labels: Sequence[Any]) -> bytes:
    # In its shortest form that reads back as the same number of its type.
    text = f"{value!s}:{index}"
    return (f"{text}:{labels[index]}" if index < len(labels) else text).encode()
