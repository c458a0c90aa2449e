"""XGBoost models from a file: binary, JSON or UBJSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from headrace.errors import InvalidInput, listing
from headrace.protocol.messages import TensorMetadata
from headrace.runtimes import artefact
from headrace.runtimes.tables.methods import MethodsRuntime, check_features

FILES = ("model.ubj", "model.json", "model.bst", "model.xgb")
METHODS = ("predict", "predict_proba")
_ESTIMATORS = {"classifier": "XGBClassifier", "regressor": "XGBRegressor", "ranker": "XGBRanker"}


class XGBoostRuntime(MethodsRuntime):
    """Serve a Booster, or the scikit-learn estimator that the file says it was saved from.

    Outputs are `predict` (the default) and, for classifiers, `predict_proba`.
    """

    platform = "xgboost"

    def load(self) -> None:
        artefact.require("xgboost", "xgboost")
        path = artefact.locate(self.settings, FILES)
        what = f"the XGBoost model '{self.settings.name}'"
        self._model = artefact.read(what, lambda: load_model(path))
        self._offer(what, [name for name in METHODS if hasattr(self._model, name)])

    def _inputs(self) -> list[TensorMetadata]:
        shape = [-1, feature_count(self._model)]
        return [TensorMetadata("input-0", "FP32", shape, {"content_type": "np"})]

    def _outputs(self) -> list[TensorMetadata]:
        classes = getattr(self._model, "n_classes_", None)
        labels = "INT64" if classes is not None else "FP32"
        rows = {"predict": (labels, [-1]), "predict_proba": ("FP32", [-1, int(classes or -1)])}
        return [TensorMetadata(n, *rows.get(n, ("FP32", [-1]))) for n in self._available]

    def _prepared(self, value: Any) -> Any:
        check_features(value, feature_count(self._model))
        return value

    def _call(self, method: str, value: Any) -> Any:
        return predict(self._model, value, method)


def load_model(path: str) -> Any:
    """The Booster in the file, or the estimator if the file says which one saved it."""
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(path)
    saved = booster.attr("scikit_learn")
    kind = json.loads(saved).get("_estimator_type") if saved else None
    name = _ESTIMATORS.get(kind or "")
    if name is None:
        return booster
    estimator = getattr(xgboost, name)()
    estimator.load_model(path)
    return estimator


def feature_count(model: Any) -> int:
    """How many columns a Booster or estimator was trained on."""
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    return int(booster.num_features())


def predict(model: Any, value: Any, method: str = "predict") -> Any:
    """Call a method of an estimator, or a Booster's predict on a matrix made of `value`.

    Raises:
        InvalidInput: the table's columns are not those the model was trained on.
    """
    import xgboost

    names = model.feature_names if isinstance(model, xgboost.Booster) else _names(model)
    if names and hasattr(value, "columns") and list(map(str, value.columns)) != list(names):
        raise InvalidInput(
            f"the model takes columns {listing(list(names))} in this order, "
            f"got {listing(list(map(str, value.columns)))}"
        )
    if not isinstance(model, xgboost.Booster):
        return getattr(model, method)(value)
    if isinstance(value, np.ndarray):
        return model.predict(xgboost.DMatrix(value, feature_names=names))
    return model.predict(xgboost.DMatrix(value))


def _names(model: Any) -> Any:
    return model.get_booster().feature_names
