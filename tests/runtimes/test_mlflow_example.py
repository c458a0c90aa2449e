"""The input example logged with a model warms it up, and shows whether its rows may be merged."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from headrace.errors import InvalidModel
from headrace.model import Model
from headrace.runtimes import create
from headrace.settings import ModelSettings
from headrace.testing import TestClient

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")

X = np.random.default_rng(0).normal(size=(20, 3))
Y = X.sum(axis=1)


def saved(folder: Path, model: object, example: object, **options: object) -> ModelSettings:
    options = {"pip_requirements": ["numpy"], "serialization_format": "cloudpickle", **options}
    mlflow.sklearn.save_model(model, str(folder / "m"), input_example=example, **options)
    return ModelSettings("m", "mlflow", uri=str(folder / "m"))


def loaded(settings: ModelSettings) -> Model:
    runtime = create(settings)
    runtime.load()
    return runtime


def centred() -> object:
    return make_pipeline(FunctionTransformer(lambda x: x - x.mean(axis=0)), LinearRegression())


def test_independent_rows_are_merged(tmp_path: Path) -> None:
    settings = saved(tmp_path, LinearRegression().fit(X, Y), X[:5])

    assert loaded(settings).metadata().row_independent


@pytest.mark.parametrize("rows", [2, 5])
def test_rows_that_change_with_their_neighbours_are_not_merged(
    tmp_path: Path, rows: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings = saved(tmp_path, centred().fit(X, Y), X[:rows])  # type: ignore[attr-defined]

    with caplog.at_level(logging.WARNING):
        runtime = loaded(settings)

    assert not runtime.metadata().row_independent
    assert "not merged into batches" in caplog.text


def test_the_example_is_scored_before_the_model_is_ready(tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    def record(x: object) -> object:
        seen.write_text("scored")
        return x

    settings = saved(
        tmp_path, make_pipeline(FunctionTransformer(record), LinearRegression()).fit(X, Y), X[:1]
    )
    seen.unlink()
    loaded(settings)

    assert seen.exists()


def test_an_example_that_the_model_refuses_is_only_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = saved(tmp_path, LinearRegression().fit(X, Y), X[:2])
    (tmp_path / "m" / "serving_input_example.json").write_text('{"inputs": [["a", "b", "c"]]}')

    with caplog.at_level(logging.WARNING):
        runtime = loaded(settings)

    assert runtime.metadata().row_independent
    assert "input example" in caplog.text


def test_the_example_is_shown_in_the_documentation(tmp_path: Path) -> None:
    saved(tmp_path, LinearRegression().fit(X, Y), X[:2])

    with TestClient(tmp_path / "m", env_manager="local") as client:
        paths = client.get("/openapi.json").json()["paths"]
        example = paths["/invocations"]["post"]["requestBody"]["content"]["application/json"]
        answer = client.post("/invocations", json=example["example"])

    assert np.allclose(answer.json()["predictions"], Y[:2])


@pytest.mark.parametrize("must", [True, False])
def test_a_model_that_must_answer_its_example_and_cannot_does_not_load(
    tmp_path: Path, must: bool
) -> None:
    settings = replace(saved(tmp_path, LinearRegression(), X[:1]), must_answer_example=must)
    runtime = create(settings)

    if must:
        with pytest.raises(InvalidModel, match="example logged with it fails: NotFittedError was"):
            runtime.load()
    else:
        runtime.load()
