"""The model under test, MLflow's tutorial wine model saved for each server, and one wine."""

from __future__ import annotations

import csv
import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent.parent / "examples" / "data" / "wine-quality-red.csv"
WINE = (7.4, 0.7, 0.0, 1.9, 0.076, 11.0, 34.0, 0.9978, 3.51, 0.56, 9.4)
TARGET = "quality"
INFER = "/v2/models/wine/infer"


@dataclass(frozen=True)
class WineModel:
    """The saved models: `sklearn` is a folder with model settings, `mlflow` an MLflow model.

    `expected` is what the estimator itself predicts for `WINE`.
    """

    sklearn: Path
    mlflow: Path
    columns: list[str]
    expected: float


def tensor_body() -> bytes:
    """One wine as one FP64 tensor of the Open Inference Protocol."""
    tensor = {"name": "input-0", "shape": [1, len(WINE)], "datatype": "FP64", "data": WINE}
    return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()


def feature_names() -> list[str]:
    """The columns of the table that the model is trained on."""
    with DATA.open(newline="") as file:
        return [name for name in next(csv.reader(file)) if name != TARGET]


def save(folder: Path) -> WineModel:
    """Train the ElasticNet on the red wines and save it below `folder`."""
    import joblib
    import mlflow.sklearn
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import ElasticNet

    with DATA.open(newline="") as file:
        header, *rows = csv.reader(file)
    columns = [name for name in header if name != TARGET]
    wines = pd.DataFrame(np.array(rows, dtype=float), columns=header)
    table, target = wines[columns], wines[TARGET]
    estimator = ElasticNet(alpha=0.5, l1_ratio=0.5, random_state=42)
    # Fitted without column names, as the tensor of the first scenario has none.
    estimator.fit(table.to_numpy(), target)
    sklearn = folder / "sklearn"
    sklearn.mkdir(parents=True)
    joblib.dump(estimator, sklearn / "model.joblib")
    settings = {
        "name": "wine",
        "implementation": "sklearn",
        "parameters": {"uri": "./model.joblib"},
    }
    (sklearn / "model-settings.json").write_text(json.dumps(settings))
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        named = ElasticNet(alpha=0.5, l1_ratio=0.5, random_state=42).fit(table, target)
        # The requirements are given because inferring them would take a while.
        mlflow.sklearn.save_model(
            named,
            str(folder / "mlflow"),
            signature=infer_signature(table, named.predict(table)),
            pip_requirements=["scikit-learn"],
        )
    expected = float(estimator.predict(np.array([WINE]))[0])
    return WineModel(sklearn, folder / "mlflow", columns, expected)
