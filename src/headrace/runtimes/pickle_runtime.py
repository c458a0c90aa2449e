"""Any Python object from a pickle, served by its methods."""

from __future__ import annotations

import importlib.util
from typing import Any

from headrace.codecs import decode_value, encode_response
from headrace.errors import InvalidInput, InvalidModel, listing, shorten
from headrace.model import Model, declared
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelMetadata
from headrace.runtimes import artefact, import_path

FILES = ("model.pkl", "model.pickle", "model.joblib")
_METHODS = ("predict", "__call__")


class PickleRuntime(Model):
    """Serve methods of the object in a pickle, each with one argument.

    `extra["methods"]` names them, by default `predict` or else a call of the object. The output
    that a request asks for is the method that answers; without one it is `extra["predict_fn"]`,
    or the first. The content type decides what the method gets; several inputs without one are the
    columns of a table. `extra["batchable"]` promises independent rows.
    """

    platform = "python"

    def load(self) -> None:
        what = f"the pickled model '{self.settings.name}'"
        artefact.require("cloudpickle", "pickle")
        path = artefact.locate(self.settings, FILES)
        if self.settings.folder:
            import_path.put_first(self.settings.folder)
        form = "joblib" if path.endswith(".joblib") else "cloudpickle"
        self._model = artefact.read(what, lambda: artefact.load_pickle(path, form, self.settings))
        extra = self.settings.extra
        offered = extra.get("methods") or [n for n in _METHODS if _has(self._model, n)][:1]
        self._methods = [str(name) for name in offered]
        self._default = extra.get("predict_fn") or next(iter(self._methods), "predict")
        for name in (*self._methods, self._default):
            if not _has(self._model, name):
                raise InvalidModel(f"{what} has no method '{shorten(name)}'")
        self.row_independent = bool(extra.get("batchable"))

    def unload(self) -> None:
        self._model = None

    def metadata(self) -> ModelMetadata:
        content_type = self.settings.content_type
        return ModelMetadata(
            platform=self.settings.platform or self.platform,
            inputs=declared(self.settings.inputs),
            outputs=declared(self.settings.outputs),
            parameters={"content_type": content_type} if content_type else {},
            row_independent=self.row_independent,
        )

    def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answer with what the requested method returns.

        Raises:
            InvalidInput: several methods are requested, or an unknown one.
            BadModelOutput: what the method returned cannot be sent.
        """
        name = self._method_of(request)
        value = decode_value(request, self._kind_of(request))
        answer = getattr(self._model, name)(value)
        # An object that is called has no better name for its only output than other models have.
        return encode_response(answer) if name == "__call__" else encode_response(answer, name)

    def _method_of(self, request: InferenceRequest) -> str:
        wanted = request.outputs or [self._default]
        known = {*self._methods, self._default}
        if len(wanted) > 1:
            raise InvalidInput(
                f"one method answers a request, got {len(wanted)} outputs: {listing(wanted)}"
            )
        if wanted[0] not in known:
            raise InvalidInput(
                f"output '{shorten(wanted[0])}' is not available, this model has "
                f"{listing(sorted(known))}"
            )
        return wanted[0]

    def _kind_of(self, request: InferenceRequest) -> str | None:
        kind = request.content_type or self.settings.content_type
        if kind is None and len(request.inputs) > 1:
            return "pd" if importlib.util.find_spec("pandas") else "dict"
        return kind


def _has(model: Any, name: str) -> bool:
    return callable(getattr(model, name, None))
