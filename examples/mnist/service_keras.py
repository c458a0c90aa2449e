"""Reads handwritten digits, with the model that train_keras.py imported."""

from __future__ import annotations

from typing import Any

import headrace
from headrace.io import NumpyNdarray

mnist = headrace.mlflow.get("mnist_keras:latest").to_runner()
svc = headrace.Service("mnist_keras", runners=[mnist])
pictures = NumpyNdarray(
    dtype="float32", shape=[-1, 1, 28, 28], enforce_dtype=True, enforce_shape=True
)


@svc.api(input=pictures, output=NumpyNdarray())
async def predict(images: Any) -> Any:
    """The probabilities of the ten digits, for each picture of grey pixels from 0 to 1."""
    return await mnist.predict.async_run(images)


@svc.api(input=pictures, output=NumpyNdarray())
async def classify(images: Any) -> Any:
    """The most probable digit of each picture."""
    return (await mnist.predict.async_run(images)).argmax(axis=1)
