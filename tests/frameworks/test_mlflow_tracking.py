"""Importing from a tracking store and its registry, beyond what `test_mlflow_page.py` shows."""

from __future__ import annotations

import mlflow
import numpy as np
import pytest

import headrace
from headrace.errors import LoadFailed

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]

NAME = "sk-learn-linear-reg-model"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch, tracking):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "uri",
    [
        pytest.param("models:/{0.name}/latest", id="latest"),
        pytest.param("models:/{0.name}@champion", id="alias"),
        pytest.param("models:/{0.model_id}", id="model id"),
    ],
)
def test_a_model_is_imported_from_the_registry(uri, registered, home):
    stored = headrace.mlflow.import_model("my_mlflow_model", uri.format(registered))

    found = headrace.mlflow.load_model(str(stored.tag)).predict(np.array([[2.0, 3.0]]))
    np.testing.assert_allclose(found, [11.0])
    assert stored.info.options["model_id"] == registered.model_id
    # The download was moved to the store, not copied.
    assert not list((home / "downloads").glob("*/*"))


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
    run = mlflow.get_run(registered.run_id)
    with pytest.raises(LoadFailed, match="cannot fetch 'runs:/.*/other'"):
        headrace.mlflow.import_model("m", f"{run.info.artifact_uri}/other")
