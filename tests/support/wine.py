"""The red wines of the examples, and the model that MLflow's tutorial trains on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.linear_model import ElasticNet

DATA = Path(__file__).parents[2] / "examples/data/wine-quality-red.csv"


def wines() -> pd.DataFrame:
    """The eleven measurements of 1,599 wines, all float64."""
    return pd.read_csv(DATA).astype(float).drop(columns="quality")


def trained(named: bool = True) -> Any:
    """An ElasticNet that predicts the quality, from a table with or without column names."""
    model = ElasticNet(alpha=0.5, l1_ratio=0.5, random_state=42)
    table = wines()
    return model.fit(table if named else table.to_numpy(), pd.read_csv(DATA)["quality"])


def save_mlflow(folder: Path, model: Any = None, signed: bool = True, **options: Any) -> Path:
    """An MLflow folder of the model, with its signature unless `signed` is false."""
    import mlflow.sklearn

    if signed:
        options.setdefault("signature", mlflow.models.infer_signature(wines(), None))
    options.setdefault("pip_requirements", ["scikit-learn"])
    mlflow.sklearn.save_model(trained() if model is None else model, str(folder), **options)
    return folder


def columns(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The table as v2 inputs, one FP64 tensor of shape [rows] per column."""
    return [
        {"name": name, "datatype": "FP64", "shape": [len(table)], "data": table[name].tolist()}
        for name in table
    ]
