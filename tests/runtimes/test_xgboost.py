from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from headrace.codecs.array import array_of, tensor_of
from headrace.codecs.frame import tensors_of
from headrace.errors import InvalidInput
from headrace.protocol.messages import InferenceRequest
from headrace.runtimes import create
from headrace.settings import ModelSettings

xgboost = pytest.importorskip("xgboost")

FRAME = pd.DataFrame(np.random.default_rng(0).random((30, 2)), columns=["a", "b"])
Y = (FRAME["a"] > 0.5).astype(int)


def serve(model, path):
    model.save_model(path)
    runtime = create(ModelSettings("m", "xgboost", uri=str(path)))
    runtime.load()
    return runtime


@pytest.mark.parametrize("suffix", ["json", "ubj"])
def test_a_classifier_answers_labels_and_probabilities(suffix, tmp_path):
    model = xgboost.XGBClassifier(n_estimators=3).fit(FRAME, Y)
    runtime = serve(model, tmp_path / f"model.{suffix}")
    request = InferenceRequest(tensors_of(FRAME), None, ["predict", "predict_proba"])
    labels, chances = runtime.infer(request).outputs
    np.testing.assert_array_equal(array_of(labels), model.predict(FRAME))
    np.testing.assert_array_equal(array_of(chances), model.predict_proba(FRAME))


def booster():
    return xgboost.train({}, xgboost.DMatrix(FRAME, label=Y), num_boost_round=3)


@pytest.mark.parametrize(
    "tensors", [tensors_of(FRAME), [tensor_of("x", FRAME.to_numpy())]], ids=["table", "matrix"]
)
def test_a_booster_answers_a_table_and_a_matrix(tensors, tmp_path):
    runtime = serve(booster(), tmp_path / "model.json")
    (answer,) = runtime.infer(InferenceRequest(tensors)).outputs
    np.testing.assert_array_equal(array_of(answer), booster().predict(xgboost.DMatrix(FRAME)))


def test_a_booster_has_no_probabilities(tmp_path):
    runtime = serve(booster(), tmp_path / "model.json")
    with pytest.raises(InvalidInput, match="'predict_proba' is not available"):
        runtime.infer(InferenceRequest(tensors_of(FRAME), None, ["predict_proba"]))


def test_columns_in_another_order_are_refused_by_name(tmp_path):
    runtime = serve(booster(), tmp_path / "model.json")
    with pytest.raises(InvalidInput, match="takes columns 'a', 'b' in this order, got 'b', 'a'"):
        runtime.infer(InferenceRequest(tensors_of(FRAME[["b", "a"]])))
