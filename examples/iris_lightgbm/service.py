"""Names the species of irises, with the model that train.py imported."""

from __future__ import annotations

from typing import Any

import headrace
from headrace.io import NumpyNdarray

iris = headrace.mlflow.get("iris_lightgbm:latest").to_runner()
svc = headrace.Service("iris_classifier", runners=[iris])
flowers = NumpyNdarray(dtype="float64", shape=[-1, 4], enforce_dtype=True, enforce_shape=True)


@svc.api(input=flowers, output=NumpyNdarray())
async def classify(rows: Any) -> Any:
    """The species of each flower, by length and width of sepal and petal in cm."""
    return await iris.predict.async_run(rows)
