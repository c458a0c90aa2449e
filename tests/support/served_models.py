"""Serving a stored model in this process, by the settings that a worker gets."""

from __future__ import annotations

import importlib
from typing import Any

from headrace.codecs.array import array_of, tensor_of
from headrace.model import Model
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.runtimes import create
from headrace.settings import ModelSettings


def settings(stored: Any) -> ModelSettings:
    """The settings of a stored model, from the module that saved it."""
    module = importlib.import_module(stored.info.module)
    return ModelSettings("m", **module.settings_of(stored))


def served(stored: Any) -> Model:
    """The loaded model."""
    model = create(settings(stored))
    model.load()
    return model


def ask(model: Model, array: Any, *outputs: str) -> InferenceResponse:
    """The answer to one array, from the method that `outputs` names, or else the default."""
    found = model.infer(InferenceRequest([tensor_of("x", array)], None, list(outputs) or None))
    assert isinstance(found, InferenceResponse)
    return found


def answer(model: Model, array: Any, *outputs: str) -> Any:
    """The only output of the answer, as an array."""
    (tensor,) = ask(model, array, *outputs).outputs
    return array_of(tensor)
