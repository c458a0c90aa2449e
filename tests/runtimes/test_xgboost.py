from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from headrace.codecs.array import array_of, tensor_of
from headrace.codecs.frame import tensors_of
from headrace.errors import InvalidInput
from headrace.protocol.messages import InferenceRequest
from headrace.runtimes import create
from headrace.runtimes.tables.xgboost_version import saved_by
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


@pytest.mark.parametrize("suffix", ["json", "ubj"])
def test_a_file_says_which_xgboost_saved_it(suffix, tmp_path):
    path = tmp_path / f"model.{suffix}"
    booster().save_model(path)

    numbers = [int(number) for number in xgboost.__version__.split(".")[:2]]
    assert list(saved_by(str(path))[:2]) == numbers


@pytest.mark.parametrize("tail", [b"", b"{}", b"version[#L", b'"version":[1,2]}', b"\0" * 99])
def test_a_file_that_does_not_say_it_is_of_no_version(tail, tmp_path):
    path = tmp_path / "model.xgb"
    path.write_bytes(tail)

    assert saved_by(str(path)) is None


def test_a_model_of_a_newer_xgboost_is_loaded_with_a_warning(tmp_path, caplog):
    path = tmp_path / "model.json"
    booster().save_model(path)
    text = path.read_text()
    start = text.rindex('"version":')
    path.write_text(text[:start] + '"version":[99,1,0]}')

    create(ModelSettings("m", "xgboost", uri=str(path))).load()

    (warning,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert "model.json was saved by XGBoost 99.1.0" in warning


def test_a_model_of_the_installed_xgboost_is_loaded_without_a_word(tmp_path, caplog):
    serve(booster(), tmp_path / "model.ubj")

    assert not [each for each in caplog.records if each.name == "headrace.worker"]
