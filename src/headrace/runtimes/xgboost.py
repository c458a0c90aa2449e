"""XGBoost models from a file: binary, JSON or UBJSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from headrace.codecs import decode_request
from headrace.errors import InvalidInput, LoadFailed, listing, shorten
from headrace.model import Model, declared
from headrace.protocol.messages import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    TensorMetadata,
)
from headrace.runtimes import artefact
from headrace.runtimes.sklearn import check_features, content_type_of, encode_methods

FILES = ("model.ubj", "model.json", "model.bst", "model.xgb")
_ESTIMATORS = {"classifier": "XGBClassifier", "regressor": "XGBRegressor", "ranker": "XGBRanker"}


class XGBoostRuntime(Model):
    """Serve a Booster, or the scikit-learn estimator that the file says it was saved from.

    Outputs are `predict` (the default) and, for classifiers, `predict_proba`. Input is one
    array of shape [rows, features], or a table with one input per column.
    """

    row_independent = True
    platform = "xgboost"

    def load(self) -> None:
        artefact.require("xgboost", "xgboost")
        path = artefact.locate(self.settings, FILES)
        what = f"the XGBoost model '{self.settings.name}'"
        self._model = artefact.read(what, lambda: load_model(path))
        methods = ("predict", "predict_proba")
        self._available = [name for name in methods if hasattr(self._model, name)]
        self._default = self.settings.extra.get("predict_fn") or "predict"
        if self._default not in self._available:
            raise LoadFailed(
                f"{what} has no method '{shorten(self._default)}', only {listing(self._available)}"
            )

    def unload(self) -> None:
        self._model = None

    def metadata(self) -> ModelMetadata:
        features = feature_count(self._model)
        inputs = [TensorMetadata("input-0", "FP32", [-1, features], {"content_type": "np"})]
        return ModelMetadata(
            platform=self.settings.platform or self.platform,
            inputs=declared(self.settings.inputs) or inputs,
            outputs=declared(self.settings.outputs) or self._outputs(),
            parameters={"content_type": self.settings.content_type or "np"},
            row_independent=self.row_independent,
        )

    def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answer with the requested methods' results, each named after its method.

        Raises:
            InvalidInput: an unknown output, or another number of features than trained on.
        """
        wanted = request.outputs or [self._default]
        for name in wanted:
            if name not in self._available:
                raise InvalidInput(
                    f"output '{shorten(name)}' is not available, this model has "
                    f"{listing(self._available)}"
                )
        value = decode_request(request, content_type_of(request, self.settings.content_type))
        check_features(value, feature_count(self._model))
        answers: dict[str, Any] = {}
        for name in wanted:
            answers[name] = predict(self._model, value, name)
        return encode_methods(answers)

    def _outputs(self) -> list[TensorMetadata]:
        classes = getattr(self._model, "n_classes_", None)
        labels = "INT64" if classes is not None else "FP32"
        rows = {"predict": (labels, [-1]), "predict_proba": ("FP32", [-1, int(classes or -1)])}
        return [TensorMetadata(name, *rows[name]) for name in self._available]


def load_model(path: str) -> Any:
    """The Booster in the file, or the estimator when the file says which saved it."""
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
