"""Train the ElasticNet from MLflow's tutorial on the red wines and log it with its signature."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# mlflow-skinny has no database driver, and MLflow 3 keeps its file store behind this switch.
os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

import mlflow
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import ElasticNet
from sklearn.model_selection import train_test_split

TABLE = Path(__file__).parents[1] / "data" / "wine-quality-red.csv"
TARGET = "quality"


def train() -> tuple[ElasticNet, pd.DataFrame]:
    """Fit the model; returns it with the rows it was fitted on, without the target."""
    np.random.seed(40)
    rows, _ = train_test_split(pd.read_csv(TABLE))
    features = rows.drop(columns=TARGET)
    model = ElasticNet(alpha=0.5, l1_ratio=0.5, random_state=42)
    return model.fit(features, rows[TARGET]), features


def log(model: ElasticNet, features: pd.DataFrame, store: Path) -> Path:
    """Log the model to the MLflow store in `store`; returns the folder of the logged model."""
    mlflow.set_tracking_uri(store.resolve().as_uri())
    mlflow.set_experiment("wine-quality")
    with mlflow.start_run():
        info = mlflow.sklearn.log_model(
            model, name="model", signature=infer_signature(features, model.predict(features))
        )
        return Path(mlflow.artifacts.download_artifacts(info.model_uri))


def main() -> None:
    """Train, log, and print the folder of the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("mlruns"), help="folder of the store")
    print(log(*train(), parser.parse_args().store))


if __name__ == "__main__":
    main()
