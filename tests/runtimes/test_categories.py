"""Columns of pandas categories, sent as text: XGBoost and LightGBM, natively and through MLflow."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest

from headrace.codecs.array import array_of, tensor_of
from headrace.codecs.frame import tensors_of
from headrace.errors import InvalidInput
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.mlflow.signature import PAYLOAD, SCORING
from headrace.protocol.tensor import Tensor, pack_bytes
from headrace.runtimes import create
from headrace.settings import ModelSettings

xgboost = pytest.importorskip("xgboost")
lightgbm = pytest.importorskip("lightgbm")

COLORS = pd.Categorical(["red", "blue", "green"] * 20)
TRAINED = pd.DataFrame({"x": np.arange(60.0), "color": COLORS, "size": pd.Categorical([3, 5] * 30)})
Y = (TRAINED["color"] == "red").astype(int)
# As a client sends it, with the categories in another order than in training.
SENT = pd.DataFrame({"x": [1.0, 2.0, 3.0], "color": ["red", "blue", "red"], "size": [5, 3, 5]})


def xgb():
    return xgboost.XGBClassifier(n_estimators=3, enable_categorical=True).fit(TRAINED, Y)


def lgb():
    return lightgbm.LGBMClassifier(n_estimators=3, min_child_samples=1, verbose=-1).fit(TRAINED, Y)


def _load(implementation, folder):
    settings = ModelSettings("m", implementation, uri=str(folder), folder=str(folder))
    runtime = create(settings)
    runtime.load()
    return runtime


def xgboost_file(folder):
    xgb().save_model(folder / "model.json")
    return _load("xgboost", folder)


def xgboost_booster_file(folder):
    xgb().get_booster().save_model(folder / "model.ubj")
    return _load("xgboost", folder)


def lightgbm_file(folder):
    lgb().booster_.save_model(folder / "model.txt")
    return _load("lightgbm", folder)


def _saved(flavor, model, folder, **options):
    module = pytest.importorskip(f"mlflow.{flavor}")
    path = str(folder / "saved")
    module.save_model(model, path, pip_requirements=[], **options)
    return _load("mlflow", path)


def xgboost_in_mlflow(folder):
    return _saved("xgboost", xgb(), folder)


def xgboost_booster_in_mlflow(folder):
    return _saved("xgboost", xgb().get_booster(), folder)


def lightgbm_in_mlflow(folder):
    return _saved("lightgbm", lgb(), folder)


def lightgbm_booster_in_mlflow(folder):
    return _saved("lightgbm", lgb().booster_, folder)


def _signature():
    with warnings.catch_warnings():
        # MLflow warns of integers, which cannot be missing.
        warnings.simplefilter("ignore", UserWarning)
        models = pytest.importorskip("mlflow.models")
        return models.infer_signature(TRAINED.astype({"size": int}))


def xgboost_with_signature(folder):
    return _saved("xgboost", xgb(), folder, signature=_signature())


def lightgbm_with_signature(folder):
    return _saved("lightgbm", lgb(), folder, signature=_signature())


WAYS = [
    *(xgboost_file, xgboost_booster_file, lightgbm_file, xgboost_in_mlflow),
    *(xgboost_booster_in_mlflow, lightgbm_in_mlflow, lightgbm_booster_in_mlflow),
    *(xgboost_with_signature, lightgbm_with_signature),
]
CHANCES = {
    "xgboost": lambda table: xgb().predict_proba(table)[:, 1],
    "lightgbm": lambda table: lgb().predict_proba(table)[:, 1],
}


def answer(runtime, table):
    request = InferenceRequest(tensors_of(table), {"content_type": "pd"})
    (output,) = runtime.infer(request).outputs
    return array_of(output)


@pytest.mark.parametrize("way", WAYS)
def test_text_stands_for_the_category_of_training(way, tmp_path):
    answered = answer(way(tmp_path), SENT)

    chances = CHANCES[way.__name__.partition("_")[0]](
        SENT.assign(
            color=pd.Categorical(SENT["color"], COLORS.categories),
            size=pd.Categorical(SENT["size"], [3, 5]),
        )
    )
    if answered.dtype.kind == "i":
        np.testing.assert_array_equal(answered, chances > 0.5)
    else:
        np.testing.assert_allclose(answered, chances, rtol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_a_row_has_the_answer_that_it_has_alone(way, tmp_path):
    runtime = way(tmp_path)

    alone = [answer(runtime, SENT[row : row + 1]) for row in range(3)]
    np.testing.assert_array_equal(answer(runtime, SENT), np.concatenate(alone))


@pytest.mark.parametrize("way", WAYS)
def test_an_unknown_category_is_what_the_framework_makes_of_it(way, tmp_path):
    runtime = way(tmp_path)
    unknown = SENT.assign(color=["pink", "blue", "red"])
    # LightGBM and XGBoost take an unknown text for a missing one; XGBoost refuses numbers.
    assert len(answer(runtime, unknown)) == 3


@pytest.mark.parametrize("way", WAYS)
def test_a_column_of_categories_without_any_value_is_missing_in_every_row(way, tmp_path):
    runtime = way(tmp_path)
    empty = SENT.assign(color=pd.Series([None] * 3, dtype=object))
    beside = SENT.assign(color=["red", None, None])

    np.testing.assert_array_equal(answer(runtime, empty)[1:], answer(runtime, beside)[1:])


@pytest.mark.parametrize("way", WAYS[:-2])
def test_a_missing_number_among_categories_does_not_change_the_others(way, tmp_path):
    runtime = way(tmp_path)
    missing = SENT.assign(size=[5, None, 5])
    nothing = SENT.assign(size=pd.Series([None] * 3, dtype=object))

    found, whole = answer(runtime, missing), answer(runtime, SENT)
    np.testing.assert_array_equal(found[[0, 2]], whole[[0, 2]])
    np.testing.assert_array_equal(answer(runtime, nothing)[1], found[1])


@pytest.mark.parametrize("way", [xgboost_file, xgboost_booster_file, xgboost_in_mlflow])
def test_an_unknown_category_that_xgboost_refuses_is_the_callers_mistake(way, tmp_path):
    with pytest.raises(InvalidInput, match="holds a category that the model does not know"):
        answer(way(tmp_path), SENT.assign(size=[99, 3, 5]))


@pytest.mark.parametrize("way", [xgboost_in_mlflow, lightgbm_in_mlflow])
def test_a_table_of_mlflows_protocol_may_hold_categories_as_text(way, tmp_path):
    body = json.dumps({"dataframe_split": SENT.to_dict(orient="split")}).encode()
    payload = Tensor(PAYLOAD, "BYTES", [1], pack_bytes([body]))
    (output,) = way(tmp_path).infer(InferenceRequest([payload], {"content_type": SCORING})).outputs

    assert array_of(output).tolist() == [1, 0, 1]


def test_metadata_shows_one_input_per_column_where_xgboost_knows_categories(tmp_path):
    metadata = xgboost_file(tmp_path).metadata()

    assert [(row.name, row.datatype) for row in metadata.inputs] == [
        ("x", "FP64"),
        ("color", "BYTES"),
        ("size", "BYTES"),
    ]


def test_text_is_refused_by_name_where_the_file_lacks_the_categories(tmp_path):
    coded = TRAINED.assign(
        color=TRAINED["color"].cat.codes.astype("category"), size=TRAINED["size"].astype(float)
    )
    model = xgboost.train(
        {}, xgboost.DMatrix(coded.to_numpy(float), Y, feature_types=["q", "c", "q"]), 3
    )
    model.save_model(tmp_path / "model.json")
    runtime = _load("xgboost", tmp_path)
    with pytest.raises(InvalidInput, match="column 'color' holds categories, and the model's file"):
        answer(runtime, SENT)
    codes = [tensor_of("x", np.array([[1.0, 2.0, 5.0]]))]

    assert array_of(runtime.infer(InferenceRequest(codes)).outputs[0]).shape == (1,)
