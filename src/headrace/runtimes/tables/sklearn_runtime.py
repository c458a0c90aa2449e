"""scikit-learn models from a file: joblib, pickle or skops."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from headrace.codecs import decode_value
from headrace.codecs.array import tensor_of
from headrace.protocol.messages import TensorMetadata
from headrace.runtimes import artefact
from headrace.runtimes.tables.methods import MethodsRuntime, check_features, has_method
from headrace.runtimes.tables.sklearn_columns import columns_by_name, columns_metadata

FILES = ("model.joblib", "model.pickle", "model.pkl", "model.skops")
OUTPUTS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")


class SKLearnRuntime(MethodsRuntime):
    """Serve a scikit-learn estimator or pipeline: `predict`, or the last method it has."""

    platform = "sklearn"
    _decode = staticmethod(decode_value)

    def load(self) -> None:
        artefact.require("sklearn", "sklearn")
        path = artefact.locate(self.settings, FILES)
        trusted = artefact.trusted_types(self.settings, self.settings.extra)
        what = f"the scikit-learn model '{self.settings.name}'"
        if path.endswith(".skops"):
            self._model = artefact.read(what, lambda: artefact.load_skops(path, trusted))
        else:
            unpickle = partial(artefact.load_pickle, path, "joblib", self.settings)
            self._model = artefact.read(what, unpickle)
        self._names = columns_by_name(self._model)
        self._columns = columns_metadata(self._model, self._names) if self._names else None
        self._content_type = "np" if self._columns is None else "pd"
        self._offer(what, [name for name in OUTPUTS if has_method(self._model, name)])

    def _inputs(self) -> list[TensorMetadata]:
        return self._columns or _inputs(self._model)

    def _outputs(self) -> list[TensorMetadata]:
        return [_output(self._model, name) for name in self._available]

    def _prepared(self, value: Any) -> Any:
        check_features(value, getattr(self._model, "n_features_in_", None))
        if self._names and isinstance(value, np.ndarray) and value.ndim == 2:
            import pandas as pd

            return pd.DataFrame(value, columns=self._names)
        return value

    def _call(self, method: str, value: Any) -> Any:
        return getattr(self._model, method)(value)


def _inputs(model: Any) -> list[TensorMetadata]:
    features = getattr(model, "n_features_in_", None)
    names = getattr(model, "feature_names_in_", None)
    parameters: dict[str, Any] = {"content_type": "np"}
    if names is not None:
        parameters["feature_names"] = [str(name) for name in names]
    if features is None:
        return [TensorMetadata("input-0", "BYTES", [-1], {"content_type": "str"})]
    return [TensorMetadata("input-0", "FP64", [-1, int(features)], parameters)]


def _output(model: Any, name: str) -> TensorMetadata:
    classes: Any = getattr(model, "classes_", None)
    known = isinstance(classes, np.ndarray)
    if name == "predict":
        empty = np.empty(0, classes.dtype if known else _label_dtype(model))
        tensor = tensor_of(name, empty)
        return TensorMetadata(name, tensor.datatype, [-1], tensor.parameters or {})
    if name == "decision_function":
        return TensorMetadata(name, "FP64", [-1])
    if not known or name == "transform":
        return TensorMetadata(name, "FP64", [-1, -1])
    # So that a client who asks for the highest classes gets their names.
    labels = {"labels": [str(label) for label in classes.tolist()]}
    return TensorMetadata(name, "FP64", [-1, len(classes)], labels)


def _label_dtype(model: Any) -> Any:
    labels = getattr(model, "labels_", None)
    return labels.dtype if isinstance(labels, np.ndarray) else np.float64
