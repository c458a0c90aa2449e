"""Importing from a tracking store and its registry, in the ways that MLflow's users do."""

from __future__ import annotations

import os

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.linear_model import LinearRegression

import headrace
from headrace.errors import LoadFailed
from support.served_models import served, settings

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]

X = np.array([[1, 1], [1, 2], [2, 2], [2, 3]], dtype=float)
Y = X @ [1.0, 2.0] + 3
NAME = "sk-learn-linear-reg-model"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A tracking store in a file, with its artifacts next to it."""
    folder, before = tmp_path_factory.mktemp("tracking"), os.getcwd()
    patch = pytest.MonkeyPatch()
    patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    os.chdir(folder)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    yield folder
    mlflow.set_tracking_uri(None)
    os.chdir(before)
    patch.undo()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch, store):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    return tmp_path


def regression():
    return LinearRegression().fit(X, Y)


@pytest.fixture(scope="module")
def registered(store):
    """The id of a run and of its model, version 1 in the registry, staged and with an alias."""
    with mlflow.start_run() as run:
        mlflow.log_params({"alpha": 0.5})
        mlflow.log_metrics({"rmse": 0.1})
        mlflow.set_tag("team", "growth")
        info = mlflow.sklearn.log_model(
            regression(), name="model", registered_model_name=NAME, pip_requirements=["numpy"]
        )
    client = MlflowClient()
    client.transition_model_version_stage(NAME, "1", "Staging")
    client.set_registered_model_alias(NAME, "champion", "1")
    return run.info.run_id, info.model_id


def check(stored):
    found = headrace.mlflow.load_model(str(stored.tag)).predict(X)
    np.testing.assert_allclose(found, Y)


def test_a_model_is_imported_by_the_uri_that_log_model_returns():
    with mlflow.start_run():
        logged_model = mlflow.sklearn.log_model(
            regression(), name="model", pip_requirements=["numpy"]
        )
    check(headrace.mlflow.import_model("linear_regression_model", logged_model.model_uri))


def test_a_model_is_imported_by_its_artifact_path_inside_a_run():
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            regression(), artifact_path="sklearn-model", pip_requirements=["numpy"]
        )
        model_uri = mlflow.get_artifact_uri("sklearn-model")
        stored = headrace.mlflow.import_model(
            "linear", model_uri, signatures={"predict": {"batchable": True}}
        )
    check(stored)
    assert settings(stored).extra["batchable"]
    assert served(stored).metadata().row_independent


def test_a_model_of_the_last_run_is_imported_after_autolog():
    mlflow.sklearn.autolog(log_input_examples=True)
    try:
        LinearRegression().fit(X, Y)
        run_id = mlflow.last_active_run().info.run_id
    finally:
        mlflow.sklearn.autolog(disable=True)
    stored = headrace.mlflow.import_model("linear", f"runs:/{run_id}/model")
    check(stored)
    assert stored.info.options["run_id"] == run_id
    assert stored.info.options["input_example"]


@pytest.mark.parametrize(
    "uri",
    [
        pytest.param("models:/{name}/1", id="version"),
        pytest.param("models:/{name}/Staging", id="stage"),
        pytest.param("models:/{name}/latest", id="latest"),
        pytest.param("models:/{name}@champion", id="alias"),
        pytest.param("models:/{model_id}", id="model id"),
        pytest.param("runs:/{run_id}/model", id="run"),
    ],
)
def test_a_model_is_imported_from_the_registry(uri, registered, home):
    run_id, model_id = registered
    stored = headrace.mlflow.import_model(
        "my_mlflow_model", uri.format(name=NAME, run_id=run_id, model_id=model_id)
    )
    check(stored)
    assert stored.info.options["model_id"] == model_id
    # The download was moved to the store, not copied.
    assert not list((home / "downloads").glob("*/*"))


def test_tags_metrics_and_params_of_a_run_become_labels_and_metadata(registered):
    run = mlflow.get_run(registered[0])
    model_uri = f"{run.info.artifact_uri}/model"
    stored = headrace.mlflow.import_model(
        "my_mlflow_model",
        model_uri,
        labels=run.data.tags,
        metadata={"metrics": run.data.metrics, "params": run.data.params},
    )
    check(stored)
    info = headrace.models.get("my_mlflow_model").info
    assert info.labels["team"] == "growth"
    assert info.metadata == {"metrics": {"rmse": 0.1}, "params": {"alpha": "0.5"}}


def test_the_folder_of_an_imported_model_is_loaded_by_its_own_flavor(registered):
    headrace.mlflow.import_model("my_mlflow_model", f"models:/{NAME}/1")
    stored = headrace.mlflow.get("my_mlflow_model:latest")
    path = stored.path_of(headrace.mlflow.MLFLOW_MODEL_FOLDER)
    loaded = mlflow.sklearn.load_model(path)
    assert isinstance(loaded, LinearRegression)
    np.testing.assert_allclose(loaded.predict(X), Y)
    requirements = os.path.join(path, "requirements.txt")
    assert os.path.isfile(requirements)


@pytest.mark.parametrize("value", [X, pd.DataFrame(X), X.tolist()], ids=["array", "table", "list"])
def test_an_imported_model_takes_what_pyfunc_takes(value, registered):
    stored = headrace.mlflow.import_model("my_mlflow_model", f"models:/{NAME}/1")
    np.testing.assert_allclose(headrace.mlflow.load_model(stored).predict(value), Y)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        pytest.param("runs:/00000000000000000000000000000000/model", "not found", id="run"),
        pytest.param("models:/nobody/1", "not found", id="name"),
        pytest.param(f"models:/{NAME}/99", "not found", id="version"),
        pytest.param(f"models:/{NAME}@nobody", "alias nobody not found", id="alias"),
        pytest.param(f"models:/{NAME}/Archived", "stage", id="stage"),
        pytest.param("models:/m-00000000000000000000000000000000", "not found", id="model id"),
    ],
)
def test_what_the_tracking_store_does_not_have_is_refused_with_mlflows_reason(
    uri, reason, registered, home
):
    with pytest.raises(LoadFailed) as caught:
        headrace.mlflow.import_model("m", uri)
    assert caught.value.message.startswith(f"MLflow cannot fetch '{uri}': ")
    assert reason in caught.value.message
    assert list((home / "downloads").iterdir()) == []


def test_an_artifact_path_without_a_model_is_named(registered):
    run = mlflow.get_run(registered[0])
    with pytest.raises(LoadFailed, match="cannot fetch 'runs:/.*/other'"):
        headrace.mlflow.import_model("m", f"{run.info.artifact_uri}/other")
