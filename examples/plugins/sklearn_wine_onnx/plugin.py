"""Predicts the quality of wines with an ONNX model: a JSON table in, a list of numbers out."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import mlflow.onnx
import numpy as np
import pandas as pd
from mlflow.models import get_model_info
from onnxruntime import InferenceSession

from headrace import InvalidInput
from headrace.plugins import BasePlugin


class Loaded(NamedTuple):
    """What is created once: the session, and the columns in the order the model takes them."""

    session: Any
    columns: list[str]


class Plugin(BasePlugin):
    """Scores tables in pandas' split orientation: `columns`, `index` and `data`."""

    def load_model(self, model_uri: str) -> Loaded:
        """The session; the column names come from the signature, as the ONNX file has none."""
        model = mlflow.onnx.load_model(model_uri).SerializeToString()
        session = InferenceSession(model, providers=["CPUExecutionProvider"])
        return Loaded(session, get_model_info(model_uri).signature.inputs.input_names())

    def request_content_type(self) -> str:
        return "application/json"

    def predict(self, model: Loaded, data: bytes) -> list[float]:
        """One prediction per row; the column `quality`, which is the target, may be present."""
        try:
            table = pd.read_json(io.BytesIO(data), orient="split")[model.columns]
            rows = table.to_numpy(np.float32)
            # A tree would send a value that is missing, or too large for float32, down some branch.
            if not np.isfinite(rows).all():
                raise ValueError("a number is missing or too large")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                "expected a JSON table in split orientation, "
                f"and numbers in the columns {', '.join(model.columns)}"
            ) from error
        (name,) = (each.name for each in model.session.get_inputs())
        (guesses,) = model.session.run(None, {name: rows})
        found: list[float] = guesses.ravel().tolist()
        return found
