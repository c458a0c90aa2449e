"""Keras and CatBoost models in the store."""

from __future__ import annotations

import os

import numpy as np
import pytest

import headrace
from support.served_models import answer, served, settings

os.environ.setdefault("KERAS_BACKEND", "torch")

pytestmark = [
    pytest.mark.runtimes,
    # Keras saves PyTorch's tensors through an interface that numpy 2 changed.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

X = np.arange(12, dtype=np.float32).reshape(4, 3)
PREDICT = {"predict": {"batchable": True}}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))


def test_a_keras_model_comes_back_and_is_served_on_the_backend_it_was_saved_on():
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    stored = headrace.keras.save_model("digits", model, signatures=PREDICT)
    expected = model.predict(X, verbose=0)
    loaded = headrace.keras.load_model("digits")
    np.testing.assert_allclose(loaded.predict(X, verbose=0), expected, rtol=1e-5)
    assert settings(stored).extra["backend"] == keras.config.backend()
    np.testing.assert_allclose(answer(served(stored), X), expected, rtol=1e-5)


def test_a_layer_of_ones_own_is_loaded_from_the_custom_objects():
    keras = pytest.importorskip("keras")

    class Doubled(keras.layers.Layer):
        def call(self, inputs):
            return inputs * 2

    model = keras.Sequential([keras.Input((3,)), Doubled()])
    custom = {"Doubled": Doubled}
    stored = headrace.keras.save_model("double", model, custom_objects=custom)
    np.testing.assert_array_equal(headrace.keras.load_model(stored).predict(X, verbose=0), X * 2)
    np.testing.assert_array_equal(answer(served(stored), X), X * 2)


def test_several_methods_of_a_keras_model_are_refused():
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    both = {"predict": {}, "__call__": {}}
    with pytest.raises(headrace.InvalidInput, match="headrace.keras serves one method of a model"):
        headrace.keras.save_model("m", model, signatures=both)


@pytest.mark.parametrize("kind", ["CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker"])
def test_a_catboost_model_is_saved_in_its_own_format_and_keeps_its_class(kind):
    catboost = pytest.importorskip("catboost")
    labels = np.array([0, 1, 0, 1])
    model = getattr(catboost, kind)(iterations=3, verbose=False, allow_writing_files=False)
    groups = {"group_id": [0, 0, 1, 1]} if kind == "CatBoostRanker" else {}
    model.fit(X, labels, **groups)
    stored = headrace.catboost.save_model("cat", model, signatures=PREDICT)
    loaded = headrace.catboost.load_model("cat")
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    np.testing.assert_array_equal(answer(served(stored), X), model.predict(X))
