"""The values of a tensor as a type hint such as `list[str]` has them."""

from __future__ import annotations

from typing import Any

from headrace.codecs import bytes_elements
from headrace.codecs.array import array_of
from headrace.protocol.mlflow.schema import Spec
from headrace.protocol.tensor import Tensor


def hinted_values(tensor: Tensor, spec: Spec) -> list[Any]:
    """A list with an element for each row.

    Text is what its content type says, or else that of `spec`. An element of shape `[N, 1]`, which
    is what metadata describes, is a whole value, such as an object in JSON; only where each value
    is a list of its own, numbers of that shape are lists of one.

    Raises:
        InvalidInput: an element does not fit its content type; the message has its index.
    """
    shape = list(tensor.shape)
    if tensor.datatype == "BYTES":
        values: Any = bytes_elements.decode(tensor, spec.content_type)
        for width in reversed(shape[1:]):
            if width > 1:
                values = [values[start : start + width] for start in range(0, len(values), width)]
        return list(values)
    values = array_of(tensor).tolist()
    if len(shape) == 2 and shape[1] == 1 and spec.type != "array":
        return [row[0] for row in values]
    return values if shape else [values]
