"""scikit-learn models from a file: joblib, pickle or skops."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.codecs import decode_request, encode_response
from headrace.codecs.array import tensor_of
from headrace.errors import InvalidInput, LoadFailed, listing, shorten
from headrace.model import Model, declared
from headrace.protocol.messages import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    TensorMetadata,
)
from headrace.protocol.tensor import Tensor
from headrace.runtimes import artefact, refusal

FILES = ("model.joblib", "model.pickle", "model.pkl", "model.skops")
OUTPUTS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")


class SKLearnRuntime(Model):
    """Serve a scikit-learn estimator or pipeline.

    The outputs are its methods by name: `predict` unless the request asks for others or
    `extra["predict_fn"]` changes the default. Input is one array (`np`) of shape
    [rows, features], or a table (`pd`) with one input per column, which is also what
    several inputs without a content type mean.
    """

    row_independent = True
    platform = "sklearn"

    def load(self) -> None:
        artefact.require("sklearn", "sklearn")
        path = artefact.locate(self.settings, FILES)
        trusted = self.settings.extra.get("skops_trusted_types") or []
        what = f"the scikit-learn model '{self.settings.name}'"
        if path.endswith(".skops"):
            self._model = artefact.read(what, lambda: artefact.load_skops(path, trusted))
        else:
            self._model = artefact.read(what, lambda: artefact.load_pickle(path, "joblib"))
        self._available = [name for name in OUTPUTS if _has(self._model, name)]
        self._default = self.settings.extra.get("predict_fn") or "predict"
        if self._default not in self._available:
            if not self._available or "predict_fn" in self.settings.extra:
                raise LoadFailed(
                    f"{what} has no method '{shorten(self._default)}', only "
                    f"{listing(self._available) or 'none that can be served'}"
                )
            self._default = self._available[-1]

    def unload(self) -> None:
        self._model = None

    def metadata(self) -> ModelMetadata:
        return ModelMetadata(
            platform=self.settings.platform or self.platform,
            inputs=declared(self.settings.inputs) or _inputs(self._model),
            outputs=declared(self.settings.outputs)
            or [_output(self._model, name) for name in self._available],
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
        check_features(value, getattr(self._model, "n_features_in_", None))
        answers = {name: refusal.call(getattr(self._model, name), value) for name in wanted}
        return encode_methods(answers)


def content_type_of(request: InferenceRequest, default: str | None) -> str:
    """The request's content type; without one several inputs are the columns of a table."""
    return request.content_type or default or ("pd" if len(request.inputs) > 1 else "np")


def check_features(value: Any, expected: int | None) -> None:
    """Require a table or array of `expected` columns, where both are known.

    Raises:
        InvalidInput: the shape differs; the message has both.
    """
    shape = getattr(value, "shape", None)
    if expected is None or shape is None:
        return
    if len(shape) < 2:
        raise InvalidInput(
            f"the model takes rows of {expected} features, shape [-1, {expected}], "
            f"got shape {list(shape)}"
        )
    if len(shape) == 2 and shape[1] != expected:
        raise InvalidInput(f"the model takes {expected} features, got {shape[1]}")


def encode_methods(answers: dict[str, Any]) -> InferenceResponse:
    """One output per method; a lone DataFrame becomes one output per column.

    A method that answers with a list of arrays, one per target, becomes outputs numbered
    from 1 after the method's name.
    """
    if len(answers) == 1:
        ((name, value),) = answers.items()
        if not isinstance(value, list):
            return encode_response(value, name)
    tensors: list[Tensor] = []
    for name, value in answers.items():
        if isinstance(value, list):
            tensors += [
                tensor_of(f"{name}-{number}", np.asarray(item))
                for number, item in enumerate(value, 1)
            ]
        else:
            dense = value.toarray() if hasattr(value, "toarray") else np.asarray(value)
            tensors.append(tensor_of(name, dense))
    return InferenceResponse(tensors, {"content_type": "dict"})


def _has(model: Any, name: str) -> bool:
    # Some estimators offer a method or not by a property that raises.
    try:
        return callable(getattr(model, name, None))
    except Exception:
        return False


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
    width = len(classes) if known and name != "transform" else -1
    return TensorMetadata(name, "FP64", [-1, width])


def _label_dtype(model: Any) -> Any:
    labels = getattr(model, "labels_", None)
    return labels.dtype if isinstance(labels, np.ndarray) else np.float64
