"""scikit-learn models in the model store."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Unpack

from headrace.frameworks import pickling
from headrace.frameworks.framework import Framework, Kept
from headrace.models import StoredModel
from headrace.runtimes import artefact

logger = logging.getLogger(__name__)

FRAMEWORK = Framework("sklearn", "sklearn", ("scikit-learn",))
SKOPS = "model.skops"
PICKLE = "model.pkl"
_TRUSTED = "skops_trusted_types"


def save_model(name: str, model: Any, **kept: Unpack[Kept]) -> StoredModel:
    """Save a scikit-learn estimator or pipeline under a new version of `name`.

    It is written by skops, whose files run no code, if skops is installed and can hold it;
    otherwise by cloudpickle. The types that skops does not know itself are recorded as trusted.
    See `Kept` for what else is kept.

    Raises:
        TypeError: it is not an estimator.
        InvalidInput: a signature names a method that it does not have.
    """
    base = FRAMEWORK.require("sklearn.base")
    if not isinstance(model, base.BaseEstimator):
        raise FRAMEWORK.refuse(model, "an estimator or pipeline of scikit-learn")
    written = None if kept.get("external_modules") else _skops(model)
    options = {} if written is None else {_TRUSTED: written[1]}
    with FRAMEWORK.saving(name, model, kept, options) as stored:
        if written is None:
            pickling.dump(model, stored.path_of(PICKLE))
        else:
            Path(stored.path_of(SKOPS)).write_bytes(written[0])
    return stored


def load_model(tag: Any) -> Any:
    """The estimator of a tag such as `iris:latest`, or of a stored model.

    Raises:
        NotFound: there is no such model, or another module saved it.
        InvalidModel: its files are not as they were stored, or hold types that were not recorded.
    """
    stored = FRAMEWORK.checked(tag)
    FRAMEWORK.require("sklearn")
    path = _file(stored)
    if path.endswith(".skops"):
        return artefact.load_skops(path, stored.info.options.get(_TRUSTED) or [])
    return artefact.load_pickle(path, "joblib")


def get(tag: Any) -> StoredModel:
    """The stored model of a tag.

    Raises:
        NotFound: no such model is stored, or another module saved it.
    """
    return FRAMEWORK.get(tag)


def settings_of(stored: StoredModel) -> dict[str, Any]:
    """The fields of `ModelSettings` by which a worker serves it."""
    trusted = stored.info.options.get(_TRUSTED)
    extra = {_TRUSTED: list(trusted)} if trusted else {}
    return FRAMEWORK.settings(stored, _file(stored), **extra)


def _file(stored: StoredModel) -> str:
    return FRAMEWORK.file(stored, SKOPS, PICKLE, "saved_model.pkl")


def _skops(model: Any) -> tuple[bytes, list[str]] | None:
    """The model as a skops file, and the types in it that skops does not know itself.

    None if skops is not installed, or cannot give the model back.
    """
    try:
        import skops.io
    except ModuleNotFoundError:
        return None
    try:
        data = skops.io.dumps(model)
        types = [str(name) for name in skops.io.get_untrusted_types(data=data)]
        skops.io.loads(data, trusted=types)
    except Exception as error:  # skops raises what the types it meets raise
        logger.info("skops cannot hold this model, so it is pickled: %s", error)
        return None
    # A class from a notebook or script cannot be imported where the model is loaded.
    if any(name.startswith("__main__.") for name in types):
        return None
    return data, types
