"""A large request: a thousand pictures of 784 pixels for a linear model, with exact answers.

Pixels are multiples of 1/64 and coefficients whole numbers, so that the sums are exact in
whatever order they are made, and every server must answer the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROWS, PIXELS = 1000, 784
LEVELS = 64


def save(folder: Path) -> Path:
    """Save the model, a linear regression of scikit-learn."""
    import joblib
    import numpy as np
    from sklearn.linear_model import LinearRegression

    model = LinearRegression()
    model.coef_ = np.random.default_rng(0).integers(-8, 9, PIXELS).astype(np.float64)
    model.intercept_ = 0.0
    model.n_features_in_ = PIXELS
    folder.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, folder / "pixels.joblib")
    return folder / "pixels.joblib"


def rows() -> Any:
    """The pictures, FP32; as JSON they take about six megabytes."""
    import numpy as np

    levels = np.random.default_rng(1).integers(0, LEVELS, (ROWS, PIXELS))
    return levels.astype(np.float32) / np.float32(LEVELS)
