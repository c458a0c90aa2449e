"""Keras models in the model store."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

from headrace.frameworks.framework import Framework, Kept
from headrace.models import StoredModel
from headrace.store.custom_objects import FILE as CUSTOM_OBJECTS

FRAMEWORK = Framework(
    "keras",
    "keras",
    ("keras", "tensorflow", "tensorflow-cpu", "torch", "jax"),
    only=("predict", "__call__"),
    single=True,
)
FILE = "model.keras"
_BACKEND = "backend"


def save_model(name: str, model: Any, **kept: Unpack[Kept]) -> StoredModel:
    """Save a Keras 3 model in Keras' own format, under a new version of `name`.

    Its own layers and functions go into `custom_objects`, by name, unless they are registered
    with Keras where the model is loaded.
    See `headrace.frameworks.framework.Kept` for what else is kept.

    Raises:
        TypeError: it is not a model of Keras 3.
        InvalidInput: signatures name a method other than `predict` or `__call__`.
    """
    keras = FRAMEWORK.require("keras")
    if not isinstance(model, keras.Model):
        raise FRAMEWORK.refuse(model, "a model of Keras 3")
    with FRAMEWORK.saving(name, model, kept, {_BACKEND: keras.config.backend()}) as stored:
        model.save(stored.path_of(FILE))
    return stored


def load_model(tag: Any, safe_mode: bool = True) -> Any:
    """The model of a tag such as `digits:latest`, or of a stored model.

    A model with code in its file, such as a Lambda layer, is loaded only if `safe_mode` is false.

    Raises:
        NotFound: there is no such model, or another module saved it.
        InvalidModel: its files are not as they were stored.
    """
    stored = FRAMEWORK.checked(tag)
    keras = FRAMEWORK.require("keras")
    return keras.saving.load_model(
        _file(stored), custom_objects=stored.custom_objects or None, safe_mode=safe_mode
    )


def get(tag: Any) -> StoredModel:
    """The stored model of a tag.

    Raises:
        NotFound: no such model is stored, or another module saved it.
    """
    return FRAMEWORK.get(tag)


def settings_of(stored: StoredModel) -> dict[str, Any]:
    """The fields of `ModelSettings` by which a worker serves it, on the backend it was saved on."""
    # Before Keras 3, a model was saved as a SavedModel of TensorFlow.
    if Path(stored.path_of("saved_model.pb")).is_file():
        return {**FRAMEWORK.settings(stored, stored.path), "implementation": "tensorflow"}
    extra: dict[str, Any] = {}
    if stored.info.options.get(_BACKEND):
        extra[_BACKEND] = stored.info.options[_BACKEND]
    if Path(stored.path_of(CUSTOM_OBJECTS)).is_file():
        extra["custom_objects"] = stored.path_of(CUSTOM_OBJECTS)
    return FRAMEWORK.settings(stored, _file(stored), **extra)


def _file(stored: StoredModel) -> str:
    return FRAMEWORK.file(stored, FILE, "saved_model.keras", "saved_model.pb")
