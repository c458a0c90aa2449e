"""MLflow models of any flavor, through `mlflow.pyfunc`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Callable, NamedTuple, Optional

from headrace.errors import InvalidInput, InvalidModel, shorten
from headrace.runtimes import artefact
from headrace.runtimes.loop_thread import LoopThread
from headrace.runtimes.mlflow import agents
from headrace.runtimes.mlflow.mlflow_folder import MLflowFolder

Predict = Callable[[Any, Optional[dict[str, Any]]], Any]

# MLflow's refusals of input begin like this. They quote the data, so only the parts that
# match the patterns below are passed on.
_REFUSALS = (
    "Failed to enforce schema",
    "Failed to enforce model input schema",
    "Failed to validate",
    "Invalid parameters found",
    "Failed to convert",
    "Invalid input",
    # A model with a type hint, sent something other than a list.
    "Expected list, but got",
    "Expected model input to contain",
)
_SAFE = (
    re.compile(r"Model is missing inputs \[[^\]]*\]"),
    re.compile(r"Missing required properties: \{[^}]*\}"),
    re.compile(r"Invalid properties not defined in the schema found: \{[^}]*\}"),
    re.compile(r"Incompatible input types for column [^.]{1,80}\. Can not safely \w+ \S+ to \w+"),
    re.compile(r"Expected list, but got \w+"),
    re.compile(r"dtype of input \S+ does not match expected dtype \S+"),
    re.compile(r"Shape of input \([^)]*\) does not match expected shape \([^)]*\)"),
)


class Pyfunc(NamedTuple):
    """How to predict with a model, in pieces if it can, and MLflow's schema of its inputs.

    `native` returns the model itself, as its flavor loads it. `loop` runs its coroutines, if it
    has any.
    """

    predict: Predict
    predict_stream: Predict | None
    input_schema: Any
    native: Callable[[], Any]
    loop: LoopThread | None = None


def load(folder: MLflowFolder, config: dict[str, Any] | None) -> Pyfunc:
    """Load a model of any flavor.

    Raises:
        InvalidModel: the folder has no `python_function` flavor, or MLflow cannot load it.
        MissingDependency: MLflow is not installed.
    """
    if not folder.pyfunc:
        raise InvalidModel("the model has no python_function flavor, so Python cannot load it")
    pyfunc = artefact.require("mlflow.pyfunc", "mlflow")
    # Only then does MLflow read times and base64 for type hints such as list[datetime].
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
    model = artefact.read(
        "the MLflow model",
        lambda: pyfunc.load_model(folder.path, suppress_warnings=True, model_config=config),
    )

    def predict(value: Any, params: dict[str, Any] | None) -> Any:
        with _refusals():
            return model.predict(value) if params is None else model.predict(value, params=params)

    def predict_stream(value: Any, params: dict[str, Any] | None) -> Iterator[Any]:
        with _refusals():
            yield from model.predict_stream(value, **({} if params is None else {"params": params}))

    schema, native = model.metadata.get_input_schema(), partial(_native, model)
    is_python = str(folder.pyfunc.get("loader_module")).startswith("mlflow.pyfunc")
    own = _native(model) if is_python else None
    streams = predict_stream if agents.can_stream(folder.pyfunc, own) else None
    return Pyfunc(predict, streams, schema, native, _loop_of(model, own))


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


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn MLflow's refusals of input into errors of the caller."""
    try:
        yield
    except Exception as error:
        refused = refusal(error)
        if refused is None:
            raise
        raise refused from error


def refusal(error: Exception) -> InvalidInput | None:
    """The error for the caller if MLflow refused the input, without the data that it quotes."""
    # By name, because MLflow may not be importable where a native model raised.
    if "MlflowException" not in [cls.__name__ for cls in type(error).__mro__]:
        return None
    text = str(getattr(error, "message", error))
    found = next((hit for hit in (pattern.search(text) for pattern in _SAFE) if hit), None)
    if found:
        return InvalidInput(f"the model's signature refuses it: {shorten(found.group(), 200)}")
    if not text.startswith(_REFUSALS):
        return None
    if text.startswith("Invalid parameters"):
        return InvalidInput("the params do not match the model's signature")
    return InvalidInput("the input does not match the types of the model's signature")
