"""Logs a model to the MLflow server of MLFLOW_TRACKING_URI and registers it as `wine`, twice.

`register_wine.py TABLE.csv`: version 1 predicts the quality, has the alias `champion` and is in
the stage Production; version 2 predicts ten more. Prints one JSON array with their ids.
"""

from __future__ import annotations

import json
import sys

import mlflow
import pandas as pd
from sklearn.linear_model import LinearRegression


def main() -> None:
    table = pd.read_csv(sys.argv[1]).astype(float)
    wines = table.drop(columns="quality")
    logged = []
    for offset in (0, 10):
        model = LinearRegression().fit(wines, table["quality"] + offset)
        signature = mlflow.models.infer_signature(wines, model.predict(wines))
        with mlflow.start_run() as run:
            info = mlflow.sklearn.log_model(
                model,
                name="model",
                signature=signature,
                registered_model_name="wine",
                pip_requirements=["scikit-learn"],
            )
        expected = model.predict(wines.head(3)).tolist()
        logged.append({"run": run.info.run_id, "model_id": info.model_id, "expected": expected})
    mlflow.MlflowClient().set_registered_model_alias("wine", "champion", "1")
    mlflow.MlflowClient().transition_model_version_stage("wine", "1", "Production")
    sys.stdout.write("\n" + json.dumps(logged))


if __name__ == "__main__":
    main()
