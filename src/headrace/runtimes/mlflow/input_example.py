"""The input example logged with an MLflow model, which warms the model up and tries batching.

Rows scored together must get the same answers as the same rows one by one, or else requests of
different callers must not be merged.
"""

from __future__ import annotations

import logging
import os
from typing import Any, Callable

import numpy as np

from headrace.errors import shorten
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.mlflow.signature import PAYLOAD, SCORING
from headrace.protocol.tensor import Tensor, pack_bytes, unpack_bytes
from headrace.runtimes.mlflow.mlflow_folder import MLflowFolder

logger = logging.getLogger("headrace.worker")

LARGEST = 1024 * 1024
LARGEST_SHOWN = 16 * 1024
MOST_ROWS = 8
# Libraries sum in a different order for a different number of rows, also in single precision.
TOLERANCE = 1e-4

Predict = Callable[[Any, Any], Any]


def request_of(folder: MLflowFolder) -> InferenceRequest | None:
    """The example as a request of the scoring protocol; None if there is none, or it is large."""
    info = folder.raw.get("saved_input_example_info")
    name = info.get("serving_input_path") if isinstance(info, dict) else None
    path = os.path.join(folder.path, name) if isinstance(name, str) else ""
    if not os.path.isfile(path) or os.path.getsize(path) > LARGEST:
        return None
    with open(path, "rb") as file:
        body = pack_bytes([file.read()])
    payload = Tensor(PAYLOAD, "BYTES", [1], body, {"content_type": "application/json"})
    return InferenceRequest([payload], {"content_type": SCORING})


def shown(folder: MLflowFolder) -> str:
    """The example as people see it in the documentation; "" if there is none, or it is large."""
    example = request_of(folder)
    body = unpack_bytes(example.inputs[0].data, 1)[0] if example is not None else b""
    return body.decode("utf-8", "replace") if len(body) <= LARGEST_SHOWN else ""


def rows_are_independent(predict: Predict, value: Any, params: Any) -> bool:
    """Score up to eight rows of an example together, then each alone.

    A lone row is scored together with itself. An example that the model refuses proves nothing.
    """
    count = _count(value)
    if not count:
        return True
    numbers = list(range(min(count, MOST_ROWS))) * (2 if count == 1 else 1)
    try:
        together = _arrays(predict(_rows(value, numbers), params))
        for position, number in enumerate(numbers):
            alone = _arrays(predict(_rows(value, [number]), params))
            if not _same({name: a[position : position + 1] for name, a in together.items()}, alone):
                return False
    except Exception as error:
        logger.warning(
            "the input example saved with the model cannot be scored: %s", shorten(error, 200)
        )
    return True


def _count(value: Any) -> int:
    """The rows of a table, an array or a dict of arrays; 0 for anything else."""
    parts = list(value.values()) if isinstance(value, dict) else [value]
    counts = {len(part) if getattr(part, "ndim", 0) else 0 for part in parts}
    return counts.pop() if len(counts) == 1 else 0


def _rows(value: Any, numbers: list[int]) -> Any:
    if isinstance(value, dict):
        return {name: part[numbers] for name, part in value.items()}
    return value.iloc[numbers] if hasattr(value, "iloc") else value[numbers]


def _arrays(answer: Any) -> dict[str, Any]:
    if isinstance(answer, dict):
        return {name: np.asarray(part) for name, part in answer.items()}
    return {"": answer.toarray() if hasattr(answer, "toarray") else np.asarray(answer)}


def _same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        _equal(array, second[name]) for name, array in first.items()
    )


def _equal(first: Any, second: Any) -> bool:
    if first.shape != second.shape:
        return False
    if first.dtype.kind in "fc":
        return bool(np.allclose(first, second, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
    return bool(np.array_equal(first, second))
