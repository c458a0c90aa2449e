"""MLflow models of flavors that are loaded from their own files, without MLflow.

Importing MLflow takes seconds and its `predict` milliseconds. The answers are those of
`mlflow.pyfunc.load_model`; models that this module does not know are left to that.
"""

from __future__ import annotations

import inspect
import os
import pkgutil
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Callable, NamedTuple, Optional

from headrace.errors import InvalidModel
from headrace.runtimes import artefact, catalog, refusal
from headrace.runtimes.mlflow import onnx_flavor
from headrace.runtimes.mlflow.mlflow_folder import MLflowFolder
from headrace.runtimes.tables import lightgbm_runtime, sklearn_arrays, xgboost_runtime
from headrace.runtimes.tables.features import with_categories
from headrace.runtimes.tables.xgboost_version import warn_if_newer

Predict = Callable[[Any, Optional[dict[str, Any]]], Any]


class Native(NamedTuple):
    """How to predict, whether rows never influence each other, and the model itself.

    Other methods of the model take the same value as `predict`; a model without any is None.
    `for_arrays` is given the labels of a table's columns, and returns what answers an array as
    `predict` does such a table, or None if nothing does.
    """

    predict: Predict
    row_independent: bool = True
    model: Any = None
    for_arrays: Callable[[Sequence[Any]], Callable[[Any], Any] | None] = lambda labels: None


_SKLEARN_METHODS = ("predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba")


def load(folder: MLflowFolder) -> Native | None:
    """The model loaded without MLflow, or None when pyfunc must load it.

    Raises:
        InvalidModel: the model's file cannot be read, or deserializing is switched off.
    """
    pyfunc = folder.pyfunc
    if pyfunc.get("config"):
        return None
    reader = catalog.mlflow_reader(pyfunc.get("loader_module", ""))
    if reader is None:
        return None
    read: Callable[[MLflowFolder, dict[str, Any]], Native | None] = pkgutil.resolve_name(reader)
    return read(folder, pyfunc)


def read_sklearn(folder: MLflowFolder, pyfunc: dict[str, Any]) -> Native | None:
    """A scikit-learn model, from a pickle, cloudpickle, joblib or skops file."""
    flavor = folder.flavors.get("sklearn")
    method = pyfunc.get("predict_fn") or "predict"
    name = pyfunc.get("model_path") or pyfunc.get("data")
    form = (flavor or {}).get("serialization_format") or "pickle"
    known = form in ("pickle", "cloudpickle", "joblib", "skops")
    if not flavor or not name or method not in _SKLEARN_METHODS or not known:
        return None
    artefact.require("sklearn", "sklearn")
    model = _pickled(folder, name, form, flavor, "the scikit-learn model")
    if not hasattr(model, method):
        raise InvalidModel(f"the scikit-learn model has no method '{method}'")
    predict = getattr(model, method)

    def for_arrays(labels: Sequence[Any]) -> Callable[[Any], Any] | None:
        found = sklearn_arrays.for_arrays(model, labels)
        return None if found is None else getattr(found, method)

    native = _native(model, lambda value, params: predict(value))
    return native._replace(for_arrays=for_arrays)


def _pickled(folder: MLflowFolder, name: str, form: str, flavor: dict[str, Any], what: str) -> Any:
    """A model in a format that may run code."""
    _check_allowed()
    path, settings = folder.file(name), folder.settings
    if form == "skops":
        trusted = artefact.trusted_types(settings, flavor)
        load = partial(artefact.load_skops, path, trusted)
    else:
        load = partial(artefact.load_pickle, path, form, settings)
    return artefact.read(what, load)


def read_xgboost(folder: MLflowFolder, pyfunc: dict[str, Any]) -> Native | None:
    """A Booster or an estimator of XGBoost."""
    flavor = folder.flavors.get("xgboost")
    if not flavor or not flavor.get("data") or pyfunc.get("predict_fn", "predict") != "predict":
        return None
    xgboost = artefact.require("xgboost", "xgboost")
    module, _, name = str(flavor.get("model_class") or "xgboost.core.Booster").rpartition(".")
    cls = getattr(xgboost, name, None)
    if module.partition(".")[0] != "xgboost" or cls is None:
        return None
    model = cls()
    path = folder.file(flavor["data"])
    artefact.read("the XGBoost model", lambda: model.load_model(path))
    warn_if_newer(path, xgboost)
    features = xgboost_runtime.features_of(model)
    known = partial(xgboost_runtime.with_known_categories, model, features)
    if isinstance(model, xgboost.Booster):
        accepted = set(inspect.signature(model.predict).parameters)
        return _native(
            model,
            lambda value, params: model.predict(
                xgboost.DMatrix(known(value), enable_categorical=bool(features.categories)),
                validate_features=True,
                **_only(params, accepted),
            ),
            others=False,
        )
    accepted = set(inspect.signature(model.predict).parameters) - {"validate_features"}
    return _native(
        model,
        lambda value, params: model.predict(
            known(value), validate_features=True, **_only(params, accepted)
        ),
    )


def read_lightgbm(folder: MLflowFolder, pyfunc: dict[str, Any]) -> Native | None:
    """A Booster of LightGBM, or one of its estimators from a pickle, cloudpickle or skops file."""
    flavor = folder.flavors.get("lightgbm")
    if not flavor or not flavor.get("data") or pyfunc.get("predict_fn", "predict") != "predict":
        return None
    cls = str(flavor.get("model_class") or "lightgbm.basic.Booster")
    form = flavor.get("serialization_format") or "cloudpickle"
    if cls.partition(".")[0] != "lightgbm" or form not in ("pickle", "cloudpickle", "skops"):
        return None
    lightgbm = artefact.require("lightgbm", "lightgbm")
    what = "the LightGBM model"
    if cls == "lightgbm.basic.Booster":
        path = folder.file(flavor["data"])
        model = artefact.read(what, lambda: lightgbm.Booster(model_file=path))
    else:
        model = _pickled(folder, flavor["data"], form, flavor, what)
    booster = getattr(model, "booster_", model)
    categories: frozenset[int] = frozenset()
    if getattr(booster, "pandas_categorical", None):
        # A model that does not say which columns these are gets what it got from MLflow.
        with suppress(InvalidModel):
            about = lightgbm_runtime.describe(booster)
            categories = lightgbm_runtime.features_of(about).categories

    def predict(value: Any, params: dict[str, Any] | None) -> Any:
        if categories and hasattr(value, "columns") and len(value.columns) > max(categories):
            value = with_categories(value, categories)
        return model.predict(value)

    return _native(model, predict)


def read_catboost(folder: MLflowFolder, pyfunc: dict[str, Any]) -> Native | None:
    """A CatBoost model, from any format that CatBoost saves in."""
    flavor = folder.flavors.get("catboost")
    name = (flavor or {}).get("model_type")
    if not flavor or not flavor.get("data") or pyfunc.get("predict_fn", "predict") != "predict":
        return None
    if name not in ("CatBoost", "CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker"):
        return None
    model = getattr(artefact.require("catboost", "catboost"), name)()
    path, form = folder.file(flavor["data"]), flavor.get("save_format") or "cbm"
    artefact.read("the CatBoost model", lambda: model.load_model(path, form))
    return _native(model, lambda value, params: model.predict(value))


def read_onnx(folder: MLflowFolder, pyfunc: dict[str, Any]) -> Native | None:
    """An ONNX graph, run by ONNX Runtime."""
    if pyfunc.get("predict_fn", "predict") != "predict":
        return None
    graph = onnx_flavor.load(folder)
    if graph is None:
        return None
    predict = graph.predict
    return Native(lambda value, params: predict(value), graph.row_independent)


def _native(model: Any, predict: Predict, others: bool = True) -> Native:
    """A model of a framework, and how to predict; `others` says whether it has other methods."""

    def predict_or_refuse(value: Any, params: dict[str, Any] | None) -> Any:
        return refusal.call(lambda given: predict(given, params), value, model)

    return Native(predict_or_refuse, model=model if others else None)


def _only(params: dict[str, Any] | None, accepted: set[str]) -> dict[str, Any]:
    """The params that `predict` takes; MLflow drops the others with a warning."""
    return {name: value for name, value in (params or {}).items() if name in accepted}


def _check_allowed() -> None:
    """Honour MLflow's switches against running code from model files."""
    for switch in ("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "MLFLOW_ALLOW_MODEL_CODE_EXECUTION"):
        if os.environ.get(switch, "true").lower() in ("false", "0"):
            raise InvalidModel(f"the model's file may run code, which {switch} forbids")
