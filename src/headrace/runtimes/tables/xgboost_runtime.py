"""XGBoost models from a file: binary, JSON or UBJSON."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np

from headrace.errors import InvalidInput, listing, shorten
from headrace.protocol.messages import TensorMetadata
from headrace.runtimes import artefact
from headrace.runtimes.tables.features import Features, with_categories
from headrace.runtimes.tables.methods import MethodsRuntime, check_features
from headrace.runtimes.tables.xgboost_version import warn_if_newer

FILES = ("model.ubj", "model.json", "model.bst", "model.xgb")
_NUMBERS = "biuf"
METHODS = ("predict", "predict_proba")
_ESTIMATORS = {"classifier": "XGBClassifier", "regressor": "XGBRegressor", "ranker": "XGBRanker"}


class XGBoostRuntime(MethodsRuntime):
    """Serve a Booster, or the scikit-learn estimator that the file says it was saved from.

    Outputs are `predict` (the default) and, for classifiers, `predict_proba`. Models that were
    trained on pandas' categories take a table, with text or whole numbers in those columns.
    """

    platform = "xgboost"

    def load(self) -> None:
        artefact.require("xgboost", "xgboost")
        path = artefact.locate(self.settings, FILES)
        what = f"the XGBoost model '{self.settings.name}'"
        self._model = artefact.read(what, lambda: load_model(path))
        self._features = features_of(self._model)
        self._content_type = self._features.content_type
        self._offer(what, [name for name in METHODS if hasattr(self._model, name)])

    def _inputs(self) -> list[TensorMetadata]:
        if self._features.categories:
            return self._features.metadata()
        shape = [-1, self._features.count]
        return [TensorMetadata("input-0", "FP32", shape, {"content_type": "np"})]

    def _outputs(self) -> list[TensorMetadata]:
        classes = getattr(self._model, "n_classes_", None)
        labels = "INT64" if classes is not None else "FP32"
        rows = {"predict": (labels, [-1]), "predict_proba": ("FP32", [-1, int(classes or -1)])}
        return [TensorMetadata(n, *rows.get(n, ("FP32", [-1]))) for n in self._available]

    def _prepared(self, value: Any) -> Any:
        check_features(value, self._features.count)
        return value

    def _call(self, method: str, value: Any) -> Any:
        return predict(self._model, self._features, value, method)


def load_model(path: str) -> Any:
    """The Booster in the file, or the estimator if the file says which one saved it."""
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(path)
    warn_if_newer(path, xgboost)
    saved = booster.attr("scikit_learn")
    kind = json.loads(saved).get("_estimator_type") if saved else None
    name = _ESTIMATORS.get(kind or "")
    if name is None:
        return booster
    estimator = getattr(xgboost, name)()
    estimator.load_model(path)
    return estimator


def features_of(model: Any) -> Features:
    """The columns that a Booster or an estimator was trained on, and which hold categories."""
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    kinds = booster.feature_types or ()
    return Features(
        int(booster.num_features()),
        tuple(booster.feature_names or ()),
        frozenset(position for position, kind in enumerate(kinds) if kind == "c"),
        integers=cache(lambda: _integers(booster)),
    )


def _integers(booster: Any) -> frozenset[int]:
    """The positions of the columns whose categories are whole numbers.

    The Booster says so only in its own file, which takes as long to write as to save it.
    """
    saved = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
    kinds = saved.get("gbtree", saved)["model"].get("cats", {}).get("enc", ())
    return frozenset(at for at, kind in enumerate(kinds) if "offsets" not in kind)


def with_known_categories(model: Any, features: Features, value: Any) -> Any:
    """A table whose columns of categories have pandas' type for them; other values as they are.

    Raises:
        InvalidInput: a column holds text, and the model does not know its categories.
    """
    if not features.categories or not hasattr(value, "columns"):
        return value
    if len(value.columns) != features.count:
        return value
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    if not hasattr(booster, "get_categories") or booster.get_categories().empty():
        # Files of XGBoost before 3.1 have the codes only, which are those of a training set.
        for position in features.categories:
            if value.dtypes.iloc[position].kind not in _NUMBERS:
                raise InvalidInput(
                    f"column '{shorten(value.columns[position])}' holds categories, and the "
                    "model's file does not say which code each of them has; send the codes, or "
                    "save the model with XGBoost 3.1 or later"
                )
        return value
    return _with_types(with_categories(value, features.categories), features)


def _with_types(table: Any, features: Features) -> Any:
    """The table with categories of the type of training, where the values do not show it.

    XGBoost takes neither a column of no categories nor, for whole numbers, the floats that they are
    beside a missing one.
    """
    import pandas as pd

    for position in features.categories:
        column = table.iloc[:, position]
        known = column.cat.categories
        if not len(column) or (len(known) and known.dtype.kind != "f"):
            continue
        if position not in features.integers():
            typed = known if len(known) else pd.Index([""])
        elif all(number.is_integer() for number in known.tolist()):
            # Without any value it may be any number: none of the rows is of this category.
            typed = known.astype("int64") if len(known) else pd.Index([0])
        else:
            continue
        table.isetitem(position, pd.Categorical(column.astype(object), typed))
    return table


def predict(model: Any, features: Features, value: Any, method: str = "predict") -> Any:
    """Call a method of an estimator, or a Booster's predict on a matrix made of `value`.

    Raises:
        InvalidInput: the table's columns are not those the model was trained on.
    """
    import xgboost

    names = features.names or None
    if names and hasattr(value, "columns") and list(map(str, value.columns)) != list(names):
        raise InvalidInput(
            f"the model takes columns {listing(list(names))} in this order, "
            f"got {listing(list(map(str, value.columns)))}"
        )
    value = with_known_categories(model, features, value)
    if not isinstance(model, xgboost.Booster):
        return getattr(model, method)(value)
    if isinstance(value, np.ndarray):
        return model.predict(xgboost.DMatrix(value, feature_names=names))
    return model.predict(xgboost.DMatrix(value, enable_categorical=bool(features.categories)))
