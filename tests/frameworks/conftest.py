"""A tracking store of MLflow's, with a registered model in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from sklearn.linear_model import LinearRegression


class Registered(NamedTuple):
    """A linear regression that adds its columns, the second twice, and 3.

    It is version 1 of `name` in the registry, in stage "Staging" and with the alias "champion".
    """

    name: str
    run_id: str
    model_id: str


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory: a tracking store in a file, with its artifacts next to it."""
    folder, before = tmp_path_factory.mktemp("tracking"), os.getcwd()
    patch = pytest.MonkeyPatch()
    patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    os.chdir(folder)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    yield folder
    mlflow.set_tracking_uri(None)
    os.chdir(before)
    patch.undo()


@pytest.fixture(scope="module")
def registered(tracking: Path) -> Registered:
    """A model that a run with params, a metric and a tag logged and registered."""
    name, x = "sk-learn-linear-reg-model", np.array([[1.0, 1.0], [1.0, 2.0], [2.0, 2.0]])
    with mlflow.start_run() as run:
        mlflow.log_params({"alpha": 0.5})
        mlflow.log_metrics({"rmse": 0.1})
        mlflow.set_tag("team", "growth")
        info = mlflow.sklearn.log_model(
            LinearRegression().fit(x, x @ [1.0, 2.0] + 3),
            name="model",
            registered_model_name=name,
            pip_requirements=["numpy"],
        )
    client = MlflowClient()
    client.transition_model_version_stage(name, "1", "Staging")
    client.set_registered_model_alias(name, "champion", "1")
    return Registered(name, run.info.run_id, info.model_id)
