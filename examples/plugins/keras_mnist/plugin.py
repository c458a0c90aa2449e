"""Reads handwritten digits: a PNG goes in, the probabilities of the ten digits come out."""

from __future__ import annotations

import io
import os
from typing import Any

# The network was trained with PyTorch; Keras reads this when it is imported.
os.environ.setdefault("KERAS_BACKEND", "torch")

import mlflow.keras
import numpy as np
from PIL import Image

from headrace import InvalidInput
from headrace.plugins import BasePlugin

SIDE = 28


class Plugin(BasePlugin):
    """Scores pictures of one white digit on black, of any size and colour mode."""

    def load_model(self, model_uri: str) -> Any:
        return mlflow.keras.load_model(model_uri)

    def request_content_type(self) -> str:
        return "image/png"

    def predict(self, model: Any, data: bytes) -> Any:
        """Ten probabilities, as the only row of a list."""
        return self.predict_batch(model, [data])[0]

    def predict_batch(self, model: Any, data: list[bytes]) -> list[Any]:
        """The same for pictures that arrive together, in one pass through the network."""
        rows = np.stack([pixels(picture) for picture in data])
        return [row[np.newaxis] for row in model.predict_on_batch(rows)]


def pixels(picture: bytes) -> np.ndarray[Any, Any]:
    """The [784] grey pixels of a picture, from 0 to 1."""
    try:
        image = Image.open(io.BytesIO(picture)).convert("L").resize((SIDE, SIDE))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidInput("expected a picture that is whole and not enormous") from error
    return np.asarray(image, np.float32).ravel() / 255
