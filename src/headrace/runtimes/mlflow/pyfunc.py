"""MLflow models of any flavor, through `mlflow.pyfunc`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Callable, NamedTuple, Optional

from headrace.errors import InvalidModel
from headrace.runtimes import artefact
from headrace.runtimes.loop_thread import LoopThread
from headrace.runtimes.mlflow import agents
from headrace.runtimes.mlflow.mlflow_folder import MLflowFolder
from headrace.runtimes.mlflow.model_errors import Takes, translated

Predict = Callable[[Any, Optional[dict[str, Any]]], Any]


class Pyfunc(NamedTuple):
    """How to predict with a model, in pieces if it can.

    `native` returns the model itself, as its flavor loads it. `loop` runs its coroutines, if it
    has any.
    """

    predict: Predict
    predict_stream: Predict | None
    native: Callable[[], Any]
    loop: LoopThread | None = None


# MLflow's client unquotes paths, although they are no URIs.
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")


def load(folder: MLflowFolder, config: dict[str, Any] | None) -> Pyfunc:
    """Load a model of any flavor.

    Raises:
        InvalidModel: the folder has no `python_function` flavor, or MLflow cannot load it.
        MissingDependency: MLflow is not installed.
    """
    if not folder.pyfunc:
        raise InvalidModel("the model has no python_function flavor, so Python cannot load it")
    escape = _ESCAPE.search(folder.path)
    if escape is not None:
        raise InvalidModel(
            f"the path of the model has '{escape[0]}' in it, which MLflow takes for another "
            "character; rename the folder"
        )
    pyfunc = artefact.require("mlflow.pyfunc", "mlflow")
    # Only then does MLflow read times and base64 for type hints such as list[datetime].
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
    model = artefact.read(
        "the MLflow model",
        lambda: pyfunc.load_model(folder.path, suppress_warnings=True, model_config=config),
    )

    takes = Takes.by(model.metadata)

    def predict(value: Any, params: dict[str, Any] | None) -> Any:
        with translated(value, params, takes):
            return model.predict(value) if params is None else model.predict(value, params=params)

    def predict_stream(value: Any, params: dict[str, Any] | None) -> Iterator[Any]:
        with translated(value, params, takes):
            yield from model.predict_stream(value, **({} if params is None else {"params": params}))

    native = partial(_native, model)
    is_python = str(folder.pyfunc.get("loader_module")).startswith("mlflow.pyfunc")
    own = _native(model) if is_python else None
    streams = predict_stream if agents.can_stream(folder.pyfunc, own) else None
    return Pyfunc(predict, streams, native, _loop_of(model, own))


def _loop_of(model: Any, own: Any) -> LoopThread | None:
    """The loop that a model's coroutines run on from now on; None if it has no coroutines."""
    wrapper = getattr(model, "_model_impl", None)
    if own is None or wrapper is None or not agents.is_asynchronous(own):
        return None
    loop = LoopThread("model-loop")
    agents.make_plain(wrapper, own, loop)
    return loop


def _native(model: Any) -> Any:
    """The model itself; None if MLflow does not hand it out."""
    for way in ("unwrap_python_model", "get_raw_model"):
        # Each raises for models of the other kind, and old versions lack the second.
        with suppress(Exception):
            return getattr(model, way)()
    return None
