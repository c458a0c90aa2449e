"""What a type checker sees of the public names; `make check` checks it, nothing runs it."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np

import headrace
from headrace import (
    AsyncClient,
    Client,
    InferenceRequest,
    InferenceResponse,
    Model,
    ModelMetadata,
    Service,
    Tensor,
)
from headrace.asgi import AsgiApp, create_app
from headrace.testing import TestClient


class Double(Model):
    def predict(self, x: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
        return x * 2


def names(request: InferenceRequest, response: InferenceResponse) -> None:
    assert_type(headrace.__version__, str)
    assert_type(request.inputs, list[Tensor])
    assert_type(request.outputs, list[str] | None)
    assert_type(response.outputs, list[Tensor])
    assert_type(ModelMetadata().row_independent, bool)
    assert_type(create_app(Double, parallel_workers=1), AsgiApp)
    assert_type(TestClient(Double).app, AsgiApp)


def clients(client: Client, waiting: AsyncClient) -> None:
    assert_type(client.ready(), bool)
    with client as entered:
        assert_type(entered, Client)


def endpoints(svc: Service) -> None:
    @svc.api
    def area(length: float, width: float) -> float:
        return length * width

    @svc.api(route="/length")
    def size(text: str) -> int:
        return len(text)

    assert_type(area(1.0, 2.0), float)
    assert_type(size("text"), int)
