"""CatBoost models in the model store."""

from __future__ import annotations

from typing import Any, Unpack

from headrace.frameworks.framework import Framework, Kept
from headrace.models import StoredModel
from headrace.runtimes.tables import catboost_runtime

FRAMEWORK = Framework("catboost", "catboost", ("catboost",))
FILE = "model.cbm"


def save_model(name: str, model: Any, **kept: Unpack[Kept]) -> StoredModel:
    """Save a CatBoost model, in CatBoost's own format, under a new version of `name`.

    See `headrace.frameworks.framework.Kept` for what else is kept.

    Raises:
        TypeError: it is not a model of CatBoost.
        InvalidInput: a signature names a method that it does not have.
    """
    catboost = FRAMEWORK.require("catboost")
    if not isinstance(model, catboost.CatBoost):
        raise FRAMEWORK.refuse(model, "a model of CatBoost")
    own = next(cls for cls in type(model).__mro__ if cls.__module__.startswith("catboost."))
    with FRAMEWORK.saving(name, model, kept, {"model_class": own.__name__}) as stored:
        model.save_model(stored.path_of(FILE), format="cbm")
    return stored


def load_model(tag: Any) -> Any:
    """The model of a tag such as `iris:latest`, or of a stored model.

    Raises:
        NotFound: there is no such model, or another module saved it.
        InvalidModel: its files are not as they were stored.
    """
    stored = FRAMEWORK.checked(tag)
    catboost = FRAMEWORK.require("catboost")
    cls = getattr(catboost, str(stored.info.options.get("model_class")), None)
    if cls is None:
        return catboost_runtime.load_model(_file(stored))
    return cls().load_model(_file(stored), format="cbm")


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
    return FRAMEWORK.file(stored, FILE, "saved_model.cbm")
