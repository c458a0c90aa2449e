"""Train a linear model on the red wines and log it to MLflow.

    python train.py

Logs to $MLFLOW_TRACKING_URI, or to a new store in the current folder, and writes the URI of the
model to model-uri.txt there.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import mlflow
import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import ElasticNet
from sklearn.model_selection import train_test_split

TABLE = Path(__file__).parents[2] / "data" / "wine-quality-red.csv"
URI_FILE = Path("model-uri.txt")
TARGET = "quality"
# What the model and the plugin need to load, for environments that are built for the model.
NEEDED = ("pandas", "scikit-learn", "skops")


def main() -> None:
    """Train, log, and print the model's score and URI."""
    table = pd.read_csv(TABLE).astype(float)
    rows, held_out = train_test_split(table, random_state=0)
    features = rows.drop(columns=TARGET)
    model = ElasticNet(alpha=0.01, random_state=0).fit(features, rows[TARGET])
    r2 = model.score(held_out.drop(columns=TARGET), held_out[TARGET])

    mlflow.set_experiment("wine-plugin")
    with mlflow.start_run() as run:
        mlflow.log_metric("r2", r2)
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(features),
            pip_requirements=[f"{name}=={version(name)}" for name in NEEDED],
        )
    uri = f"runs:/{run.info.run_id}/model"
    URI_FILE.write_text(uri + "\n")
    print(f"R² on held-out wines: {r2:.2f}")
    print(f"{uri} (written to {URI_FILE})")


if __name__ == "__main__":
    main()
