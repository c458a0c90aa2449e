"""The answer to one inference, as arrays or as a table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from headrace.client.client_errors import BadAnswer
from headrace.codecs import array, frame
from headrace.errors import InvalidInput, listing
from headrace.protocol.tensor import Parameters, Tensor


class InferResult:
    """What a model answered. `tensors` are the outputs as received, in order."""

    def __init__(
        self,
        tensors: Sequence[Tensor],
        *,
        model_name: str = "",
        model_version: str | None = None,
        id: str = "",
        parameters: Parameters | None = None,
    ) -> None:
        self.tensors = list(tensors)
        self.model_name = model_name
        self.model_version = model_version
        self.id = id
        self.parameters = parameters or {}

    @cached_property
    def outputs(self) -> dict[str, np.ndarray[Any, Any]]:
        """The outputs by name; text, bytes, times and JSON values are arrays of objects.

        Raises:
            BadAnswer: an element does not match its content type.
        """
        try:
            return {tensor.name: array.array_of(tensor, writable=True) for tensor in self.tensors}
        except InvalidInput as error:
            raise unreadable(error) from error

    def to_numpy(self) -> np.ndarray[Any, Any]:
        """The only output.

        Raises:
            BadAnswer: the model returned none or several; the message names them.
        """
        if len(self.tensors) != 1:
            names = listing([tensor.name for tensor in self.tensors])
            raise BadAnswer(f"expected one output, got {len(self.tensors)}: {names}")
        return next(iter(self.outputs.values()))

    def to_frame(self) -> Any:
        """A DataFrame with one column per output; needs pandas.

        An output of more than one dimension becomes a column of arrays.

        Raises:
            BadAnswer: the outputs differ in their number of rows.
        """
        try:
            return frame.frame_of(self.tensors)
        except InvalidInput as error:
            raise unreadable(error) from error

    def __repr__(self) -> str:
        shapes = ", ".join(f"{tensor.name}: {list(tensor.shape)}" for tensor in self.tensors)
        return f"InferResult({self.model_name}, {shapes})"


def unreadable(error: InvalidInput) -> BadAnswer:
    """The error for an output that cannot be decoded; decoders call every tensor an input."""
    return BadAnswer(f"the answer cannot be read: {error.message.replace('input ', 'output ')}")
