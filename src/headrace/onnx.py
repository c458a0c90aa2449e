"""ONNX graphs in the model store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Unpack

from headrace.frameworks.framework import Framework, Kept
from headrace.models import StoredModel

FRAMEWORK = Framework("onnx", "onnx", ("onnx", "onnxruntime"), method="run", only=("run",))
FILE = "model.onnx"
# What a protobuf message can hold; the weights of a larger graph are files of their own.
_LARGEST = 2**31 - 1


def save_model(name: str, model: Any, **kept: Unpack[Kept]) -> StoredModel:
    """Save a graph under a new version of `name`, after ONNX has checked it.

    See `headrace.frameworks.framework.Kept` for what else is kept.

    Raises:
        TypeError: it is not an `onnx.ModelProto`.
        InvalidInput: a signature names a method other than `run`.
    """
    # Whoever has a graph has imported this.
    onnx = sys.modules.get("onnx")
    if onnx is None or not isinstance(model, onnx.ModelProto):
        raise FRAMEWORK.refuse(model, "an onnx.ModelProto")
    external = model.ByteSize() > _LARGEST
    if not external:
        onnx.checker.check_model(model)
    with FRAMEWORK.saving(name, model, kept) as stored:
        if external:
            onnx.save_model(model, stored.path_of(FILE), save_as_external_data=True)
        else:
            Path(stored.path_of(FILE)).write_bytes(model.SerializeToString())
    return stored


def load_model(tag: Any, providers: Any = None, session_options: Any = None) -> Any:
    """An `InferenceSession` of the graph of a tag or stored model.

    `providers` are those of ONNX Runtime, by default all that are available.

    Raises:
        NotFound: there is no such model, or another module saved it.
        InvalidModel: its files are not as they were stored.
    """
    stored = FRAMEWORK.checked(tag)
    runtime = FRAMEWORK.require("onnxruntime")
    providers = runtime.get_available_providers() if providers is None else providers
    return runtime.InferenceSession(_file(stored), session_options, providers=providers)


def get(tag: Any) -> StoredModel:
    """The stored model of a tag.

    Raises:
        NotFound: no such model is stored, or another module saved it.
    """
    return FRAMEWORK.get(tag)


def settings_of(stored: StoredModel) -> dict[str, Any]:
    """The fields of `ModelSettings` by which a worker serves it."""
    return FRAMEWORK.settings(stored, _file(stored))


def _file(stored: StoredModel) -> str:
    return FRAMEWORK.file(stored, FILE, "saved_model.onnx")
