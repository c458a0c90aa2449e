"""Train a decision tree on the red wines, convert it to ONNX and log it to MLflow.

    python train.py

Logs to $MLFLOW_TRACKING_URI, or to a new store in the current folder, and writes the URI of the
model to model-uri.txt there.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import mlflow
import mlflow.onnx
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from skl2onnx import to_onnx
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeRegressor

TABLE = Path(__file__).parents[2] / "data" / "wine-quality-red.csv"
URI_FILE = Path("model-uri.txt")
TARGET = "quality"
# What the model and the plugin need to load, for environments that are built for the model.
NEEDED = ("onnx", "onnxruntime", "pandas")


def main() -> None:
    """Train, convert, log, and print the model's score and URI."""
    # ONNX computes in float32: train on float32 too, so that thresholds split the rows the same.
    table = pd.read_csv(TABLE).astype(np.float32)
    rows, held_out = train_test_split(table, random_state=0)
    features = rows.drop(columns=TARGET)
    tree = DecisionTreeRegressor(max_leaf_nodes=20, random_state=0)
    tree.fit(features.to_numpy(), rows[TARGET])
    r2 = tree.score(held_out.drop(columns=TARGET).to_numpy(), held_out[TARGET])

    mlflow.set_experiment("wine-onnx-plugin")
    with mlflow.start_run() as run:
        mlflow.log_metric("r2", r2)
        mlflow.onnx.log_model(
            to_onnx(tree, features.to_numpy()[:1]),
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
