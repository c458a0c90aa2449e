"""What the runtimes of boosted trees have in common: known features, and possibly classes."""

from __future__ import annotations

from typing import Any

from headrace.protocol.messages import TensorMetadata
from headrace.runtimes.tables.features import Features
from headrace.runtimes.tables.methods import MethodsRuntime


class BoosterRuntime(MethodsRuntime):
    """Serve the methods `predict` and `predict_proba` of boosted trees.

    A subclass loads the model and then calls `_serve`.
    """

    def _serve(self, what: str, features: Features, classes: int) -> None:
        """Set up the loaded model by its features, and its number of classes, or 0.

        Raises:
            InvalidModel: `extra["predict_fn"]` is not a method of the model.
        """
        self._features = features
        self._classes = classes
        self._content_type = features.content_type
        self._offer(what, ["predict", "predict_proba"] if classes else ["predict"])

    def _inputs(self) -> list[TensorMetadata]:
        return self._features.metadata()

    def _outputs(self) -> list[TensorMetadata]:
        outputs = [self._labels()]
        if self._classes:
            outputs.append(TensorMetadata("predict_proba", "FP64", [-1, self._classes]))
        known = {output.name for output in outputs}
        return outputs + [
            TensorMetadata(name, "FP64", [-1]) for name in self._available if name not in known
        ]

    def _prepared(self, value: Any) -> Any:
        self._features.check(value)
        return self._converted(value)

    def _labels(self) -> TensorMetadata:
        """Metadata of the output `predict`."""
        raise NotImplementedError

    def _converted(self, value: Any) -> Any:
        """The checked array or table as the framework takes it."""
        raise NotImplementedError
