"""What both servers call: decode a PNG, score it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from PIL import Image

SIDE = 28


def save(folder: Path) -> bytes:
    """Train and save a network of 512 hidden units; returns the PNG of one digit."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    folder.mkdir(parents=True)
    digits = load_digits()
    images = [_enlarged(image) for image in digits.images]
    table = np.stack([np.asarray(image, np.float32).ravel() / 255 for image in images])
    model = MLPClassifier([512], max_iter=15, random_state=0).fit(table, digits.target)
    joblib.dump(model, folder / "model.joblib")
    file = io.BytesIO()
    images[0].save(file, "PNG")
    return file.getvalue()


def load(folder: str) -> Any:
    return joblib.load(Path(folder, "model.joblib"))


def score(model: Any, data: bytes) -> str:
    """The answer for one picture."""
    return json.dumps(model.predict_proba(_row(data)[None])[0].tolist())


def score_many(model: Any, data: list[bytes]) -> list[str]:
    """The answers for several pictures, from one call of the model."""
    answers = model.predict_proba(np.stack([_row(picture) for picture in data]))
    return [json.dumps(row) for row in answers.tolist()]


def _row(data: bytes) -> Any:
    image = Image.open(io.BytesIO(data)).convert("L").resize((SIDE, SIDE))
    return np.asarray(image, np.float32).ravel() / 255


def _enlarged(image: Any) -> Any:
    return Image.fromarray((image * 255 / 16).astype(np.uint8)).resize((SIDE, SIDE))
