"""The models that all servers serve, saved once, and what they predict."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import pixels, wine

# Rows that are sent at the same time, each different, before there is load.
DISTINCT = 64


@dataclass(frozen=True)
class Rows:
    """What is sent: requests of different rows, and the predictions for each."""

    requests: list[Any]
    predictions: list[list[float]]


@dataclass(frozen=True)
class Models:
    """The folder with the saved models, the rows of each, and an estimator to call directly."""

    folder: Path
    rows: dict[str, Rows]
    estimator: Any


def save(folder: Path) -> Models:
    """Train and save both models below `folder`."""
    import joblib
    import numpy as np

    saved = wine.save(folder)
    saved.sklearn.joinpath("model.joblib").rename(folder / "wine.joblib")
    estimator = joblib.load(folder / "wine.joblib")
    names = wine.feature_names()
    with wine.DATA.open(newline="") as file:
        table = [[float(each[name]) for name in names] for each in csv.DictReader(file)]
    rows = [np.array([row]) for row in [list(wine.WINE), *table[1:DISTINCT]]]
    pictures = pixels.rows()
    large = joblib.load(pixels.save(folder))
    return Models(
        folder,
        {
            "wine": Rows(rows, [estimator.predict(row).tolist() for row in rows]),
            "pixels": Rows([pictures], [large.predict(pictures).tolist()]),
        },
        estimator,
    )
