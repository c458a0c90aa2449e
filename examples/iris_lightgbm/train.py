"""Train LightGBM on the irises with autolog, and import the logged model into the model store."""

from __future__ import annotations

import lightgbm
import mlflow
import mlflow.lightgbm
from sklearn.datasets import load_iris

import headrace


def main() -> None:
    """Train in a run that autolog begins, import what it logged, and print the tag."""
    mlflow.lightgbm.autolog()
    flowers, species = load_iris(return_X_y=True)
    lightgbm.LGBMClassifier(n_estimators=20, verbose=-1, random_state=0).fit(flowers, species)

    run_id = mlflow.last_active_run().info.run_id
    stored = headrace.mlflow.import_model(
        "iris_lightgbm", f"runs:/{run_id}/model", signatures={"predict": {"batchable": True}}
    )
    print(stored.tag)


if __name__ == "__main__":
    main()
