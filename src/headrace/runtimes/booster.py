"""What the runtimes of boosted trees have in common: methods by name over known features."""

from __future__ import annotations

from typing import Any

from headrace.codecs import decode_request
from headrace.errors import InvalidInput, LoadFailed, listing, shorten
from headrace.model import Model, declared
from headrace.protocol.messages import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    TensorMetadata,
)
from headrace.runtimes.features import Features
from headrace.runtimes.sklearn import content_type_of, encode_methods


class BoosterRuntime(Model):
    """Serve the methods `predict` and `predict_proba` of boosted trees.

    A subclass loads the model and then calls `_serve`. Input is one array of shape
    [rows, features], or a table with one input per column.
    """

    row_independent = True
    _model: Any

    def _serve(self, what: str, features: Features, classes: int) -> None:
        """Take what was loaded: its features, and how many classes it tells apart, or 0.

        Raises:
            LoadFailed: `extra["predict_fn"]` is no method of the model.
        """
        self._features = features
        self._classes = classes
        self._available = ["predict", "predict_proba"] if classes else ["predict"]
        self._default = self.settings.extra.get("predict_fn") or "predict"
        if self._default not in self._available:
            raise LoadFailed(
                f"{what} has no method '{shorten(self._default)}', only {listing(self._available)}"
            )

    def unload(self) -> None:
        self._model = None

    def metadata(self) -> ModelMetadata:
        outputs = [self._labels()]
        if self._classes:
            outputs.append(TensorMetadata("predict_proba", "FP64", [-1, self._classes]))
        return ModelMetadata(
            platform=self.settings.platform or self.platform,
            inputs=declared(self.settings.inputs) or self._features.metadata(),
            outputs=declared(self.settings.outputs) or outputs,
            parameters={"content_type": self.settings.content_type or self._features.content_type},
            row_independent=self.row_independent,
        )

    def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answer with the requested methods' results, each named after its method.

        Raises:
            InvalidInput: an unknown output, or columns that the model was not trained on.
        """
        wanted = request.outputs or [self._default]
        for name in wanted:
            if name not in self._available:
                raise InvalidInput(
                    f"output '{shorten(name)}' is not available, this model has "
                    f"{listing(self._available)}"
                )
        value = decode_request(request, content_type_of(request, self.settings.content_type))
        self._features.check(value)
        value = self._prepared(value)
        return encode_methods({name: self._call(name, value) for name in wanted})

    def _labels(self) -> TensorMetadata:
        """Metadata of the output `predict`."""
        raise NotImplementedError

    def _prepared(self, value: Any) -> Any:
        """The array or table as the framework takes it."""
        raise NotImplementedError

    def _call(self, method: str, value: Any) -> Any:
        """The answer of `predict` or `predict_proba`."""
        raise NotImplementedError
