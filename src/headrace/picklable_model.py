"""Any Python object with methods to call, in the model store, as a pickle."""

from __future__ import annotations

from typing import Any, Unpack

from headrace.frameworks import pickling
from headrace.frameworks.framework import Framework, Kept
from headrace.models import StoredModel
from headrace.runtimes import artefact

FRAMEWORK = Framework("picklable_model", "pickle", ("cloudpickle",), method="__call__")
FILE = "model.pkl"


def save_model(name: str, model: Any, **kept: Unpack[Kept]) -> StoredModel:
    """Save an object that cloudpickle can write, under a new version of `name`.

    The methods that `signatures` names are served; without signatures the object is called.
    See `headrace.frameworks.framework.Kept` for what else is kept.

    Raises:
        InvalidInput: it cannot be pickled, a signature names a method that it does not have, or
            there are no signatures and it cannot be called.
    """
    FRAMEWORK.require("cloudpickle")
    with FRAMEWORK.saving(name, model, kept) as stored:
        pickling.dump(model, stored.path_of(FILE))
    return stored


def load_model(tag: Any) -> Any:
    """The object of a tag such as `greeter:latest`, or of a stored model. Runs code from its file.

    Raises:
        NotFound: there is no such model, or another module saved it.
        InvalidModel: its files are not as they were stored.
    """
    return artefact.load_pickle(_file(FRAMEWORK.checked(tag)), "cloudpickle")


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
    return FRAMEWORK.file(stored, FILE, "saved_model.pkl")
