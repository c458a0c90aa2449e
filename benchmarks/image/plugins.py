"""The two plugins: one picture at a time, and many at once."""

from __future__ import annotations

from typing import Any

from benchmarks.image import scoring

from headrace.plugins import BasePlugin


class Single(BasePlugin):
    """Scores each picture on its own."""

    def load_model(self, model_uri: str) -> Any:
        return scoring.load(model_uri)

    def predict(self, model: Any, data: bytes) -> str:
        return scoring.score(model, data)

    def request_content_type(self) -> str:
        return "image/png"

    def response_content_type(self) -> str:
        return "application/json"


class Batched(Single):
    """Takes the pictures of several callers at once."""

    def predict_batch(self, model: Any, data: list[bytes]) -> list[str]:
        return scoring.score_many(model, data)
