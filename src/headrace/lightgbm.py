"""LightGBM models in the model store."""

from __future__ import annotations

from typing import Any, Unpack

from headrace.frameworks.framework import Framework, Kept
from headrace.models import StoredModel

FRAMEWORK = Framework("lightgbm", "lightgbm", ("lightgbm",))
FILE = "model.txt"


def save_model(name: str, model: Any, **kept: Unpack[Kept]) -> StoredModel:
    """Save a Booster, as text, under a new version of `name`.

    Of an estimator its Booster is saved, so `predict` of a classifier then returns
    probabilities; `headrace.sklearn.save_model` keeps the estimator itself.
    See `headrace.frameworks.framework.Kept` for what else is kept.

    Raises:
        TypeError: it is neither a Booster nor an estimator of LightGBM.
        InvalidInput: a signature names a method that it does not have.
    """
    lightgbm = FRAMEWORK.require("lightgbm")
    if not isinstance(model, (lightgbm.Booster, lightgbm.LGBMModel)):
        raise FRAMEWORK.refuse(model, "a Booster or an estimator of LightGBM")
    booster = getattr(model, "booster_", model)
    with FRAMEWORK.saving(name, model, kept) as stored:
        booster.save_model(stored.path_of(FILE))
    return stored


def load_model(tag: Any) -> Any:
    """The Booster of a tag such as `iris:latest`, or of a stored model.

    Raises:
        NotFound: there is no such model, or another module saved it.
        InvalidModel: its files are not as they were stored.
    """
    stored = FRAMEWORK.checked(tag)
    return FRAMEWORK.require("lightgbm").Booster(model_file=_file(stored))


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
    # BentoML gives the text the name of another format.
    return FRAMEWORK.file(stored, FILE, "saved_model.ubj", "saved_model.txt")
