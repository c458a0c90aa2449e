"""The methods of a stored model in this process, which answer as they do in a server."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from headrace.errors import InvalidModel
from headrace.model import Model
from headrace.protocol.mlflow.signature import Signature
from headrace.protocol.reserved_parameters import BATCH_DIM
from headrace.runners.runner_values import only_value, request_of, value_of
from headrace.runtimes import batch_dimension, create
from headrace.settings import ModelSettings
from headrace.store.stored_model import StoredModel


def load(stored: StoredModel) -> LocalMethods:
    """Load a model by the runtime that serves it.

    Raises:
        InvalidModel: its module does not say how it is served, or its files are wrong.
        MissingDependency: the framework is not installed.
    """
    module = stored.framework_module()
    settings_of = getattr(module, "settings_of", None)
    if settings_of is None:
        raise InvalidModel(f"module '{module.__name__}' does not say how its models are served")
    settings = ModelSettings(**{"name": stored.tag.name, **settings_of(stored)})
    model = create(settings)
    model.load()
    return LocalMethods(model, stored.info.signatures)


class LocalMethods:
    """An attribute for each method in a model's signatures, called as those of a runner."""

    def __init__(self, model: Model, signatures: Mapping[str, Any]) -> None:
        self._model = model
        raw = model.metadata().signature
        self._signature = Signature.parse(raw) if raw else None
        # A request that names no method is for the only one.
        self._has_one = len(signatures) == 1
        for name, signature in signatures.items():
            dims = tuple(signature.batch_dim) if signature.batchable else (0, 0)
            setattr(self, name, partial(self._answer, name, dims))

    def _answer(self, method: str, batch_dim: tuple[int, int], /, *args: Any, **kwargs: Any) -> Any:
        value = only_value(f"method '{method}'", args, kwargs)
        request = request_of(value, None if self._has_one else method, batch_dim)
        if self._signature is not None:
            request = self._signature.conform(request)
        if BATCH_DIM in (request.parameters or {}):
            response = batch_dimension.infer(request, self._model.infer)
        else:
            response = self._model.infer(request)
        return value_of(response, batch_dim)
