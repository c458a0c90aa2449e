"""Predicts the quality of wines: a table in JSON goes in, a list of numbers comes out."""

from __future__ import annotations

import io
from typing import Any

import mlflow.sklearn
import pandas as pd

from headrace import InvalidInput
from headrace.plugins import BasePlugin


class Plugin(BasePlugin):
    """Scores tables in pandas' split orientation: `columns`, `index` and `data`."""

    def load_model(self, model_uri: str) -> Any:
        return mlflow.sklearn.load_model(model_uri)

    def request_content_type(self) -> str:
        return "application/json"

    def predict(self, model: Any, data: bytes) -> list[float]:
        """One prediction per row; the column `quality`, which is the target, may be present."""
        wanted = list(model.feature_names_in_)
        try:
            table = pd.read_json(io.BytesIO(data), orient="split")
            guesses: list[float] = model.predict(table[wanted]).tolist()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                "expected a JSON table in split orientation with at least one row, "
                f"and numbers in the columns {', '.join(wanted)}"
            ) from error
        return guesses
