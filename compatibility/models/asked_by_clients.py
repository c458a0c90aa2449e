"""Models that the examples of Triton's client and KServe's tests ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from headrace.model import InferenceRequest, InferenceResponse, Model


class Simple(Model):
    """The sum and the difference of two inputs."""

    def predict(self, INPUT0: np.ndarray, INPUT1: np.ndarray) -> dict[str, Any]:
        return {"OUTPUT0": INPUT0 + INPUT1, "OUTPUT1": INPUT0 - INPUT1}


class SimpleString(Model):
    """The same of integers in text."""

    def predict(self, request: InferenceRequest) -> dict[str, Any]:
        first, second = (_integers(tensor) for tensor in request.inputs)
        found = {"OUTPUT0": first + second, "OUTPUT1": first - second}
        return {name: value.astype(str).astype(object) for name, value in found.items()}


class Identity(Model):
    """Whatever tensors it gets, as its outputs."""

    def predict(self, request: InferenceRequest) -> InferenceResponse:
        for tensor in request.inputs:
            tensor.name = tensor.name.replace("INPUT", "OUTPUT").replace("input", "output")
        return InferenceResponse(request.inputs)


class Repeat(Model):
    """Each element of its input as an answer of its own."""

    def predict(self, IN: np.ndarray, DELAY: np.ndarray, WAIT: np.ndarray) -> dict[str, Any]:
        return {"OUT": IN}

    def predict_stream(
        self, IN: np.ndarray, DELAY: np.ndarray, WAIT: np.ndarray
    ) -> Iterator[dict[str, Any]]:
        for value in IN:
            yield {"OUT": np.array([value], np.int32)}


def _integers(tensor: Any) -> np.ndarray[Any, Any]:
    from headrace.protocol.tensor import unpack_bytes

    texts = unpack_bytes(tensor.data, int(np.prod(tensor.shape)))
    return np.array([int(text) for text in texts]).reshape(tensor.shape)
