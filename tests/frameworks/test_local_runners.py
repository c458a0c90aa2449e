"""Runners after `init_local`: arrays go in and come out as they do where the model is served."""

from __future__ import annotations

import asyncio

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

import headrace
from headrace.errors import InvalidInput, InvalidModel

pytestmark = pytest.mark.filterwarnings("ignore")

X = np.random.default_rng(0).random((20, 3)).astype(np.float32)
Y = (X[:, 0] > 0.5).astype(int)
BOTH = {"predict": {"batchable": True}, "predict_proba": {"batchable": True}}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))


def local(stored):
    runner = stored.to_runner()
    runner.init_local(quiet=True)
    return runner


def test_a_booster_of_xgboost_takes_an_array():
    booster = xgboost.train({}, xgboost.DMatrix(X, Y), 3)
    runner = local(headrace.xgboost.save_model("m", booster))
    np.testing.assert_allclose(runner.predict.run(X), booster.predict(xgboost.DMatrix(X)))


def test_a_booster_of_lightgbm_takes_an_array():
    booster = lightgbm.train({"verbose": -1}, lightgbm.Dataset(X, Y), 3)
    runner = local(headrace.lightgbm.save_model("m", booster))
    np.testing.assert_allclose(runner.predict.run(X), booster.predict(X))


def test_an_onnx_model_takes_an_array_and_names_its_outputs():
    model = LogisticRegression().fit(X, Y)
    runner = local(headrace.onnx.save_model("m", to_onnx(model, X[:1], options={"zipmap": False})))
    found = runner.run(X)
    assert found["label"].tolist() == model.predict(X).tolist()
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(X), rtol=1e-4)


def test_every_method_of_a_model_answers():
    model = LogisticRegression().fit(X, Y)
    runner = local(headrace.sklearn.save_model("m", model, signatures=BOTH))
    assert runner.predict.run(X).tolist() == model.predict(X).tolist()
    odds = asyncio.run(runner.predict_proba.async_run(pd.DataFrame(X)))
    np.testing.assert_allclose(odds, model.predict_proba(X))


def test_every_method_of_an_imported_model_answers_by_its_signature(tmp_path):
    table = pd.DataFrame(X.astype(float), columns=["a", "b", "c"])
    model = LogisticRegression().fit(table, Y)
    signature = mlflow.models.infer_signature(table, Y)
    path = str(tmp_path / "m")
    mlflow.sklearn.save_model(model, path, signature=signature, pip_requirements=["numpy"])
    runner = local(headrace.mlflow.import_model("m", path, signatures=BOTH))
    shuffled = table[["c", "a", "b"]]
    assert runner.predict.run(shuffled).tolist() == model.predict(table).tolist()
    np.testing.assert_allclose(runner.predict_proba.run(table), model.predict_proba(table))
    with pytest.raises(InvalidInput, match="'b'"):
        runner.predict.run(table[["a", "c"]])


def test_rows_along_another_dimension_are_turned_for_the_model_and_back():
    class Doubled:
        def predict(self, x):
            assert x.shape == (3, 20)
            return x * 2

    columns = {"predict": {"batchable": True, "batch_dim": (1, 1)}}
    runner = local(headrace.picklable_model.save_model("m", Doubled(), signatures=columns))
    np.testing.assert_array_equal(runner.predict.run(X.T), X.T * 2)


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((X, X), {}), ((X,), {"a": X})])
def test_a_method_takes_one_value_or_several_by_name(args, kwargs):
    runner = local(headrace.sklearn.save_model("m", LogisticRegression().fit(X, Y)))
    with pytest.raises(InvalidInput, match="'predict' takes one value, or several by their names"):
        runner.predict.run(*args, **kwargs)


def test_a_changed_file_is_found_before_the_model_is_loaded():
    stored = headrace.sklearn.save_model("m", LogisticRegression().fit(X, Y))
    for name in stored.info.digests:
        with open(stored.path_of(name), "ab") as file:
            file.write(b"x")
    with pytest.raises(InvalidModel):
        stored.to_runner().init_local(quiet=True)
