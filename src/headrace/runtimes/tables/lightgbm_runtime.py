"""LightGBM models from a file: a Booster as text, or a pickled scikit-learn estimator."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from headrace.codecs.array import tensor_of
from headrace.errors import InvalidInput, InvalidModel
from headrace.protocol.messages import TensorMetadata
from headrace.runtimes import artefact
from headrace.runtimes.tables.booster import BoosterRuntime
from headrace.runtimes.tables.features import Features, with_categories
from headrace.settings import ModelSettings

PICKLES = (".joblib", ".pickle", ".pkl")
FILES = (
    *("model.bst", "model.txt", "model.lgb"),
    *("model.joblib", "model.pickle", "model.pkl", "model.skops"),
)
_CLASSES = ("binary", "multiclass", "multiclassova")
_TRUSTED = (
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRanker",
    "lightgbm.sklearn.LGBMRegressor",
)


class LightGBMRuntime(BoosterRuntime):
    """Serve a Booster or an estimator of LightGBM's scikit-learn API.

    There is `predict_proba` if the objective has classes. `predict` is LightGBM's own: for a
    Booster with such an objective it returns the probabilities, for an estimator the labels.
    """

    platform = "lightgbm"

    def load(self) -> None:
        artefact.require("lightgbm", "lightgbm")
        path = artefact.locate(self.settings, FILES)
        what = f"the LightGBM model '{self.settings.name}'"
        self._model = artefact.read(what, lambda: load_model(path, self.settings))
        booster = getattr(self._model, "booster_", self._model)
        if not hasattr(booster, "dump_model"):
            raise InvalidModel(f"the file of {what} holds something else")
        self._is_booster = booster is self._model
        about = describe(booster)
        objective = str(about.get("objective", "")).partition(" ")[0]
        self._width = int(about["num_tree_per_iteration"])
        classes = max(2, int(about["num_class"])) if objective in _CLASSES else 0
        self._serve(what, features_of(about), classes)
        # A matrix is a supported input, also for models that were trained on a table.
        warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)

    def _labels(self) -> TensorMetadata:
        labels = getattr(self._model, "classes_", None)
        dtype = labels.dtype if isinstance(labels, np.ndarray) else np.float64
        empty = tensor_of("predict", np.empty(0, dtype))
        shape = [-1, self._width] if self._is_booster and self._width > 1 else [-1]
        return TensorMetadata("predict", empty.datatype, shape, empty.parameters or {})

    def _converted(self, value: Any) -> Any:
        """The value with its columns of categories typed as such, and wide numbers kept wide."""
        categories = self._features.categories
        if not hasattr(value, "columns"):
            if categories:
                raise InvalidInput("the model has columns of categories; send one input per column")
            # LightGBM would round the integers of a matrix, though not of a table, to float32.
            return value if value.dtype.kind == "f" else value.astype(np.float64)
        return with_categories(value, categories)

    def _call(self, method: str, value: Any) -> Any:
        if not self._is_booster or method == "predict":
            return getattr(self._model, method)(value)
        probabilities = self._model.predict(value)
        if probabilities.ndim > 1:
            return probabilities
        return np.column_stack((1.0 - probabilities, probabilities))


def load_model(path: str, settings: ModelSettings) -> Any:
    """The Booster in a text file, or the estimator in a pickle or skops file."""
    if path.endswith(".skops"):
        further = artefact.trusted_types(settings, settings.extra)
        return artefact.load_skops(path, [*_TRUSTED, *further])
    if path.endswith(PICKLES):
        return artefact.load_pickle(path, "joblib", settings)
    import lightgbm

    return lightgbm.Booster(model_file=path)


def describe(booster: Any) -> dict[str, Any]:
    """What LightGBM's own file of a Booster says before its trees."""
    # One tree is enough: everything needed here precedes the trees.
    about: dict[str, Any] = booster.dump_model(num_iteration=1)
    return about


def features_of(about: dict[str, Any]) -> Features:
    """The features that the description of a Booster lists.

    Raises:
        InvalidModel: it does not show which of them are categories.
    """
    names: list[str] = about["feature_names"]
    unnamed = [f"Column_{position}" for position in range(len(names))]
    return Features(
        len(names),
        () if names == unnamed else tuple(names),
        _categories(names, about),
        lambda name: name.replace(" ", "_"),
    )


def _categories(names: list[str], about: dict[str, Any]) -> frozenset[int]:
    """Positions of the columns that were of pandas' category type in training.

    Raises:
        InvalidModel: the file does not show which they are.
    """
    if not about.get("pandas_categorical"):
        return frozenset()
    infos, count = about["feature_infos"], len(about["pandas_categorical"])
    found = [i for i, name in enumerate(names) if infos.get(name, {}).get("values")]
    if len(found) < count:
        # Columns that training found useless have no entry, whatever they held.
        found += [i for i, name in enumerate(names) if name not in infos]
    if len(found) != count:
        raise InvalidModel(
            "the LightGBM model does not say which of its columns are pandas categories"
        )
    return frozenset(found)
