"""CatBoost models from a file: binary or JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.codecs.array import tensor_of
from headrace.errors import InvalidInput, InvalidModel, shorten
from headrace.protocol.messages import TensorMetadata
from headrace.runtimes import artefact, openmp
from headrace.runtimes.tables.booster import BoosterRuntime
from headrace.runtimes.tables.features import Features

FILES = ("model.cbm", "model.bin", "model.json")


class CatBoostRuntime(BoosterRuntime):
    """Serve a CatBoost classifier, regressor or ranker; the file says which it is.

    Classifiers also have `predict_proba`. Columns of categories or text need a table.
    """

    platform = "catboost"

    def load(self) -> None:
        artefact.require("catboost", "catboost")
        path = artefact.locate(self.settings, FILES)
        what = f"the CatBoost model '{self.settings.name}'"
        self._model = artefact.read(what, lambda: load_model(path))
        if self._model.get_embedding_feature_indices():
            raise InvalidModel(f"{what} has embedding features, which cannot be sent")
        self._serve(what, _features(self._model), len(self._model.classes_))

    def _labels(self) -> TensorMetadata:
        # The answer to one row of zeros shows the type and the number of targets.
        row: list[Any] = [0.0] * self._features.count
        for position in self._features.categories:
            row[position] = "0"
        answer = self._call("predict", [row])
        empty = tensor_of("predict", answer[:1])
        return TensorMetadata(
            "predict", empty.datatype, [-1, *answer.shape[1:]], empty.parameters or {}
        )

    def _converted(self, value: Any) -> Any:
        """The value itself, after a check of its columns of categories."""
        categories = self._features.categories
        if categories and not hasattr(value, "columns") and value.dtype.kind not in "iu":
            raise InvalidInput("the model has columns of categories; send one input per column")
        if categories and hasattr(value, "columns"):
            for position in sorted(categories):
                if not _is_category(value.iloc[:, position]):
                    raise InvalidInput(
                        f"column '{shorten(value.columns[position])}' holds categories, which "
                        "must be text or whole numbers, and not null"
                    )
        return value

    def _call(self, method: str, value: Any) -> Any:
        # -1 stands for all processors of the machine.
        threads = openmp.thread_count(-1)
        answer = np.asarray(getattr(self._model, method)(value, thread_count=threads))
        # With more than two classes, CatBoost returns labels as a column.
        return answer[:, 0] if answer.ndim == 2 and answer.shape[1] == 1 else answer


def load_model(path: str) -> Any:
    """The classifier in the file, or a regressor, which also serves for rankers."""
    import catboost

    form = "json" if path.endswith(".json") else "cbm"
    plain = catboost.CatBoost().load_model(path, format=form)
    cls = catboost.CatBoostClassifier if len(plain.classes_) else catboost.CatBoostRegressor
    return cls().load_model(path, format=form)


def _features(model: Any) -> Features:
    names = tuple(str(name) for name in model.feature_names_ or ())
    unnamed = tuple(str(position) for position in range(len(names)))
    categories = [*model.get_cat_feature_indices(), *model.get_text_feature_indices()]
    return Features(len(names), () if names == unnamed else names, frozenset(categories))


def _is_category(column: Any) -> bool:
    if column.dtype.kind in "iu":
        return True
    return column.dtype.kind == "O" and all(isinstance(cell, str) for cell in column.tolist())
