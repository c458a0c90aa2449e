"""TensorFlow modules in the model store."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

from headrace.errors import InvalidInput, shorten
from headrace.frameworks.framework import Framework, Kept
from headrace.models import StoredModel

FRAMEWORK = Framework(
    "tensorflow", "tensorflow", ("tensorflow", "tensorflow-cpu"), method="__call__", single=True
)
FOLDER = "saved_model"


def save_model(
    name: str,
    model: Any,
    *,
    tf_signatures: Any = None,
    tf_save_options: Any = None,
    **kept: Unpack[Kept],
) -> StoredModel:
    """Save a `tf.Module` or Keras model as a SavedModel, under a new version of `name`.

    The method that is served has to be a `tf.function` with an `input_signature`, unless
    `tf_signatures` has a `serving_default`, in the form that `tf.saved_model.save` takes.
    See `headrace.frameworks.framework.Kept` for what else is kept.

    Raises:
        TypeError: it is neither.
        InvalidInput: nothing says which tensors the method takes, or there are several methods.
    """
    tensorflow = FRAMEWORK.require("tensorflow")
    is_keras = hasattr(model, "export")
    if not is_keras and not isinstance(model, tensorflow.Module):
        raise FRAMEWORK.refuse(model, "a tf.Module or Keras model")
    if tf_signatures is None and not is_keras:
        method = next(iter(kept.get("signatures") or [FRAMEWORK.method]))
        tf_signatures = {"serving_default": _traced(model, method)}
    with FRAMEWORK.saving(name, model, kept) as stored:
        if is_keras and tf_signatures is None:
            model.export(stored.path_of(FOLDER), verbose=False)
        else:
            tensorflow.saved_model.save(
                model, stored.path_of(FOLDER), signatures=tf_signatures, options=tf_save_options
            )
    return stored


def load_model(tag: Any) -> Any:
    """What `tf.saved_model.load` returns for the model of a tag, or for a stored model.

    Raises:
        NotFound: there is no such model, or another module saved it.
        InvalidModel: its files are not as they were stored.
    """
    stored = FRAMEWORK.checked(tag)
    return FRAMEWORK.require("tensorflow").saved_model.load(_folder(stored))


def get(tag: Any) -> StoredModel:
    """The stored model of a tag.

    Raises:
        NotFound: no such model is stored, or another module saved it.
    """
    return FRAMEWORK.get(tag)


def settings_of(stored: StoredModel) -> dict[str, Any]:
    """The fields of `ModelSettings` by which a worker serves it."""
    return FRAMEWORK.settings(stored, _folder(stored))


def _folder(stored: StoredModel) -> str:
    # BentoML writes into the model's folder itself.
    return str(Path(FRAMEWORK.file(stored, f"{FOLDER}/saved_model.pb", "saved_model.pb")).parent)


def _traced(model: Any, method: str) -> Any:
    """The method as a function of known tensors."""
    function: Any = getattr(model, method, None)
    if getattr(function, "input_signature", None) is None:
        raise InvalidInput(
            f"'{shorten(method)}' is not a tf.function with an input_signature; give it one, or "
            "pass tf_signatures={'serving_default': ...} as to tf.saved_model.save"
        )
    return function.get_concrete_function()
