from __future__ import annotations

import gc
import weakref

import numpy as np
import pandas as pd
import pytest

from headrace.codecs.array import array_of, tensor_of
from headrace.codecs.frame import tensors_of
from headrace.errors import InvalidInput
from headrace.protocol.messages import InferenceRequest
from headrace.runtimes import create
from headrace.settings import ModelSettings

catboost = pytest.importorskip("catboost")
pytestmark = pytest.mark.runtimes

FRAME = pd.DataFrame(np.random.default_rng(0).random((60, 2)), columns=["a", "b"])
HALVES = (FRAME["b"] > 0.5).astype(int).to_numpy()
THIRDS = np.arange(60) % 3
TEXTS = FRAME.assign(b=np.where(HALVES, "red", "white"))
QUIET = {"iterations": 3, "verbose": False, "allow_writing_files": False}


def serve(model, path, **settings):
    model.save_model(str(path), format="json" if path.suffix == ".json" else "cbm")
    runtime = create(ModelSettings("m", "catboost", uri=str(path.parent), **settings))
    runtime.load()
    return runtime


def ask(runtime, *outputs, inputs=None):
    tensors = inputs or [tensor_of("x", FRAME.to_numpy())]
    return [
        array_of(tensor)
        for tensor in runtime.infer(InferenceRequest(tensors, None, list(outputs) or None)).outputs
    ]


@pytest.mark.parametrize("name", ["model.cbm", "model.bin", "model.json"])
def test_a_file_of_each_form_is_served(name, tmp_path):
    path = tmp_path / name
    runtime = serve(catboost.CatBoostRegressor(**QUIET).fit(FRAME, HALVES), path)
    form = "json" if path.suffix == ".json" else "cbm"
    saved = catboost.CatBoost().load_model(str(path), format=form)
    np.testing.assert_array_equal(ask(runtime)[0], saved.predict(FRAME))


@pytest.mark.parametrize(
    ("labels", "datatype"),
    [
        pytest.param(HALVES, "INT64", id="whole numbers"),
        pytest.param(HALVES.astype(float), "FP64", id="fractions"),
        pytest.param(HALVES.astype(bool), "BOOL", id="flags"),
        pytest.param(np.where(HALVES, "red", "white"), "BYTES", id="text"),
        pytest.param(THIRDS, "INT64", id="three classes"),
        pytest.param(np.array(["a", "b", "c"])[THIRDS], "BYTES", id="three texts"),
    ],
)
def test_a_classifier_answers_labels_of_their_type_and_probabilities(labels, datatype, tmp_path):
    model = catboost.CatBoostClassifier(**QUIET).fit(FRAME, labels)
    runtime = serve(model, tmp_path / "model.cbm")
    predicted, chances = ask(runtime, "predict", "predict_proba")
    assert predicted.tolist() == model.predict(FRAME).ravel().tolist()
    np.testing.assert_array_equal(chances, model.predict_proba(FRAME))
    shapes = [(row.datatype, row.shape) for row in runtime.metadata().outputs]
    assert shapes == [(datatype, [-1]), ("FP64", [-1, chances.shape[1]])]


@pytest.mark.parametrize("loss", ["RMSE", "Poisson", "MultiRMSE"])
def test_a_regressor_answers_numbers(loss, tmp_path):
    target = np.c_[HALVES, THIRDS] if loss == "MultiRMSE" else HALVES
    model = catboost.CatBoostRegressor(loss_function=loss, **QUIET).fit(FRAME, target)
    runtime = serve(model, tmp_path / "model.cbm")
    np.testing.assert_array_equal(ask(runtime)[0], model.predict(FRAME))
    (output,) = runtime.metadata().outputs
    assert (output.datatype, output.shape) == ("FP64", [-1, *target.shape[1:]])


def test_a_ranker_answers_scores(tmp_path):
    model = catboost.CatBoostRanker(**QUIET).fit(FRAME, HALVES, group_id=np.arange(60) // 10)
    np.testing.assert_array_equal(
        ask(serve(model, tmp_path / "model.cbm"))[0], model.predict(FRAME)
    )


def test_a_regressor_has_no_probabilities(tmp_path):
    runtime = serve(catboost.CatBoostRegressor(**QUIET).fit(FRAME, HALVES), tmp_path / "model.cbm")
    with pytest.raises(InvalidInput, match="'predict_proba' is not available"):
        ask(runtime, "predict_proba")


def texts(folder):
    model = catboost.CatBoostClassifier(cat_features=["b"], **QUIET).fit(TEXTS, HALVES)
    return model, serve(model, folder / "model.cbm")


def test_text_is_a_category(tmp_path):
    model, runtime = texts(tmp_path)
    answer = ask(runtime, inputs=tensors_of(TEXTS))[0]
    assert answer.tolist() == model.predict(TEXTS).tolist()
    assert [row.datatype for row in runtime.metadata().inputs] == ["FP64", "BYTES"]


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        (tensors_of(TEXTS[["b", "a"]]), "takes columns 'a', 'b' in this order, got 'b', 'a'"),
        (tensors_of(TEXTS.assign(a="red")), "column 'a' must hold numbers"),
        (tensors_of(FRAME), "column 'b' holds categories, which must be text or whole numbers"),
        (tensors_of(TEXTS.assign(b=[None] + ["red"] * 59)), "column 'b' holds categories"),
        ([tensor_of("x", FRAME.to_numpy())], "send one input per column"),
    ],
    ids=["order", "text", "fractions", "null", "matrix"],
)
def test_wrong_input_is_refused_by_name(inputs, complaint, tmp_path):
    with pytest.raises(InvalidInput, match=complaint):
        ask(texts(tmp_path)[1], inputs=inputs)


@pytest.mark.parametrize("signed", [True, False], ids=["signature", "no signature"])
@pytest.mark.parametrize("kind", ["CatBoost", "CatBoostClassifier", "CatBoostRegressor"])
@pytest.mark.filterwarnings("ignore")
def test_mlflows_answers_are_pyfuncs_to_the_bit(kind, signed, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    model = catboost.CatBoost(QUIET) if kind == "CatBoost" else getattr(catboost, kind)(**QUIET)
    model.fit(FRAME, HALVES)
    options = {"signature": mlflow.models.infer_signature(FRAME)} if signed else {}
    mlflow.catboost.save_model(model, str(tmp_path / "m"), pip_requirements=["catboost"], **options)
    runtime = create(ModelSettings("m", "mlflow", uri=str(tmp_path / "m")))
    runtime.load()
    request = InferenceRequest(tensors_of(FRAME), {"content_type": "pd"})
    expected = mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(FRAME)
    assert array_of(runtime.infer(request).outputs[0]).tobytes() == expected.tobytes()
    assert runtime.row_independent


def test_unloading_frees_the_model(tmp_path):
    runtime = serve(catboost.CatBoostRegressor(**QUIET).fit(FRAME, HALVES), tmp_path / "model.cbm")
    held = weakref.ref(runtime._model)
    runtime.unload()
    gc.collect()
    assert held() is None
