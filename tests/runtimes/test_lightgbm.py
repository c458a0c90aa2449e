from __future__ import annotations

import gc
import importlib
import weakref

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io

from headrace.codecs.array import array_of, tensor_of
from headrace.codecs.frame import tensors_of
from headrace.errors import InvalidInput, LoadFailed
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor, pack_bytes
from headrace.runtimes import create
from headrace.settings import ModelSettings

lightgbm = pytest.importorskip("lightgbm")

FRAME = pd.DataFrame(np.random.default_rng(0).random((60, 2)), columns=["sour salt", "b"])
HALVES = (FRAME["b"] > 0.5).astype(int)
THIRDS = np.arange(60) % 3
TEXTS = FRAME.assign(b=pd.Categorical(np.where(HALVES, "red", "white")))


def train(objective, labels=HALVES, table=FRAME, **params):
    params = {"objective": objective, "verbose": -1, "min_data_in_leaf": 1, **params}
    return lightgbm.train(params, lightgbm.Dataset(table, label=labels), 3)


def serve(model, path, **settings):
    if isinstance(model, lightgbm.Booster):
        model.save_model(path)
    elif path.suffix == ".skops":
        skops.io.dump(model, path)
    else:
        joblib.dump(model, path)
    runtime = create(ModelSettings("m", "lightgbm", uri=str(path.parent), **settings))
    runtime.load()
    return runtime


def ask(runtime, *outputs, inputs=None):
    tensors = inputs or [tensor_of("x", FRAME.to_numpy())]
    return [
        array_of(tensor)
        for tensor in runtime.infer(InferenceRequest(tensors, None, list(outputs) or None)).outputs
    ]


@pytest.mark.parametrize(
    "inputs", [tensors_of(FRAME), [tensor_of("x", FRAME.to_numpy())]], ids=["table", "matrix"]
)
@pytest.mark.parametrize("name", ["model.bst", "model.txt", "model.lgb"])
def test_a_booster_answers_a_table_and_a_matrix(name, inputs, tmp_path):
    model = train("regression")
    (answer,) = ask(serve(model, tmp_path / name), inputs=inputs)
    np.testing.assert_array_equal(answer, model.predict(FRAME))


@pytest.mark.parametrize("suffix", ["joblib", "pkl", "skops"])
def test_a_classifier_answers_labels_and_probabilities(suffix, tmp_path):
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(FRAME, HALVES)
    runtime = serve(model, tmp_path / f"model.{suffix}")
    labels, chances = ask(runtime, "predict", "predict_proba")
    np.testing.assert_array_equal(labels, model.predict(FRAME))
    np.testing.assert_array_equal(chances, model.predict_proba(FRAME))
    assert [(row.datatype, row.shape) for row in runtime.metadata().outputs] == [
        ("INT64", [-1]),
        ("FP64", [-1, 2]),
    ]


def test_labels_may_be_text(tmp_path):
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1)
    model.fit(FRAME, np.where(HALVES, "red", "white"))
    (labels,) = ask(serve(model, tmp_path / "model.joblib"))
    assert labels.tolist() == model.predict(FRAME).tolist()


def test_a_booster_of_two_classes_gives_the_probability_of_each(tmp_path):
    model = train("binary")
    predicted, chances = ask(serve(model, tmp_path / "model.bst"), "predict", "predict_proba")
    np.testing.assert_array_equal(predicted, model.predict(FRAME))
    np.testing.assert_array_equal(chances[:, 1], predicted)
    np.testing.assert_array_equal(chances[:, 0], 1 - predicted)


def test_a_booster_of_three_classes_gives_the_probability_of_each(tmp_path):
    model = train("multiclass", THIRDS, num_class=3)
    runtime = serve(model, tmp_path / "model.bst")
    (chances,) = ask(runtime, "predict_proba")
    np.testing.assert_array_equal(chances, model.predict(FRAME))
    assert [row.shape for row in runtime.metadata().outputs] == [[-1, 3], [-1, 3]]


def test_a_regressor_has_no_probabilities(tmp_path):
    runtime = serve(train("regression"), tmp_path / "model.bst")
    with pytest.raises(InvalidInput, match="'predict_proba' is not available, this model has 'pre"):
        ask(runtime, "predict_proba")


def test_predict_fn_changes_the_default(tmp_path):
    extra = {"predict_fn": "predict_proba"}
    assert ask(serve(train("binary"), tmp_path / "model.bst", extra=extra))[0].shape == (60, 2)


def test_metadata_names_the_features(tmp_path):
    metadata = serve(train("regression"), tmp_path / "model.bst").metadata()
    assert metadata.inputs[0].shape == [-1, 2]
    assert metadata.inputs[0].parameters["feature_names"] == ["sour_salt", "b"]
    assert metadata.row_independent


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        (tensors_of(FRAME[["b", "sour salt"]]), "in this order, got 'b', 'sour salt'"),
        (tensors_of(FRAME.assign(b="red")), "column 'b' must hold numbers"),
        ([tensor_of("x", FRAME.to_numpy()[0])], r"shape \[-1, 2\], got shape \[2\]"),
        ([tensor_of("x", FRAME.to_numpy()[None])], r"got shape \[1, 60, 2\]"),
        ([tensor_of("x", np.array([["a", "b"]]))], "a matrix must hold numbers"),
    ],
    ids=["order", "text", "one dimension", "three dimensions", "matrix of text"],
)
def test_wrong_input_is_refused_by_name(inputs, complaint, tmp_path):
    runtime = serve(train("regression"), tmp_path / "model.bst")
    with pytest.raises(InvalidInput, match=complaint):
        ask(runtime, inputs=inputs)


def test_text_becomes_the_categories_of_training(tmp_path):
    model = train("binary", table=TEXTS)
    runtime = serve(model, tmp_path / "model.bst")
    sent = tensors_of(TEXTS.astype({"b": object}))
    np.testing.assert_array_equal(ask(runtime, inputs=sent)[0], model.predict(TEXTS))
    assert [row.datatype for row in runtime.metadata().inputs] == ["FP64", "BYTES"]
    assert runtime.metadata().parameters == {"content_type": "pd"}


def test_a_category_answers_the_same_alone_as_among_others(tmp_path):
    runtime = serve(train("binary", table=TEXTS), tmp_path / "model.bst")
    alone = Tensor("b", "BYTES", [1], pack_bytes([b"white"]))
    number = tensor_of("sour salt", np.array([0.5]))
    both = Tensor("b", "BYTES", [2], pack_bytes([b"red", b"white"]))
    numbers = tensor_of("sour salt", np.array([0.5, 0.5]))
    assert ask(runtime, inputs=[number, alone])[0][0] == ask(runtime, inputs=[numbers, both])[0][1]


def test_a_category_that_training_found_useless_is_still_one(tmp_path):
    table = TEXTS.assign(c=pd.Categorical(["x"] * 59 + ["y"]))
    model = train("binary", table=table, min_data_in_leaf=20)
    sent = tensors_of(table.astype({"b": object, "c": object}))
    (answer,) = ask(serve(model, tmp_path / "model.bst"), inputs=sent)
    np.testing.assert_array_equal(answer, model.predict(table))


def test_columns_that_may_or_may_not_be_categories_fail_the_load(tmp_path):
    table = TEXTS.assign(c=pd.Categorical(["x"] * 59 + ["y"]), d=0.0)
    with pytest.raises(LoadFailed, match="which of its columns are pandas categories"):
        serve(train("binary", table=table, min_data_in_leaf=20), tmp_path / "model.bst")


def test_large_whole_numbers_keep_their_digits(tmp_path):
    # A tree that splits between neighbours that float32 cannot distinguish.
    numbers = np.array([2**24, 2**24 + 1] * 30)
    model = train("regression", numbers % 2, numbers[:, None].astype(float), min_data_in_bin=1)
    (answer,) = ask(serve(model, tmp_path / "model.bst"), inputs=[tensor_of("x", numbers[:, None])])
    assert answer[0] != answer[1]


def test_another_object_in_the_file_fails_to_load(tmp_path):
    with pytest.raises(LoadFailed, match="holds something else"):
        serve({"not": "a model"}, tmp_path / "model.joblib")


@pytest.mark.parametrize("signed", [True, False], ids=["signature", "no signature"])
@pytest.mark.parametrize("form", ["booster", "skops", "cloudpickle"])
@pytest.mark.filterwarnings("ignore")
def test_mlflows_answers_are_pyfuncs_to_the_bit(form, signed, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    options = {} if form == "booster" else {"serialization_format": form}
    if signed:
        options["signature"] = mlflow.models.infer_signature(FRAME)
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(FRAME, HALVES)
    model = train("binary") if form == "booster" else model
    save = importlib.import_module("mlflow.lightgbm").save_model
    save(model, str(tmp_path / "m"), pip_requirements=["lightgbm"], **options)
    runtime = create(ModelSettings("m", "mlflow", uri=str(tmp_path / "m")))
    runtime.load()
    request = InferenceRequest(tensors_of(FRAME), {"content_type": "pd"})
    expected = mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(FRAME)
    assert array_of(runtime.infer(request).outputs[0]).tobytes() == expected.tobytes()
    assert runtime.row_independent


def test_unloading_frees_the_model(tmp_path):
    runtime = serve(train("regression"), tmp_path / "model.bst")
    held = weakref.ref(runtime._model)
    runtime.unload()
    gc.collect()
    assert held() is None
