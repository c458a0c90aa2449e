"""`custom_objects.pkl`: objects of the user's that are kept with a model, pickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.archives.decompression import INSTALL_ZSTD as INSTALL
from headrace.errors import InvalidInput, InvalidModel, MissingDependency, shorten

FILE = "custom_objects.pkl"


def write_custom_objects(folder: Path, objects: Mapping[str, Any]) -> None:
    """Pickle the objects, those of scripts and notebooks by value.

    Raises:
        MissingDependency: cloudpickle is not installed.
        InvalidInput: they cannot be pickled.
    """
    cloudpickle = _cloudpickle()
    try:
        data = cloudpickle.dumps(dict(objects))
    except Exception as error:  # an object's own code runs here
        raise InvalidInput(f"custom_objects cannot be pickled: {shorten(error, 200)}") from error
    (folder / FILE).write_bytes(data)


def read_custom_objects(folder: Path) -> dict[str, Any]:
    """Unpickle the objects, which runs code of whoever made the model; empty if there are none.

    Raises:
        MissingDependency: a module that they need is not installed.
        InvalidModel: they cannot be unpickled.
    """
    file = folder / FILE
    if not file.exists():
        return {}
    cloudpickle = _cloudpickle()
    try:
        found = cloudpickle.loads(file.read_bytes())
    except ModuleNotFoundError as error:
        raise MissingDependency(f"its custom objects need '{error.name}'") from error
    except Exception as error:  # an object's own code runs here
        raise InvalidModel(f"'{FILE}' cannot be unpickled: {shorten(error, 200)}") from error
    if not isinstance(found, dict):
        raise InvalidModel(f"'{FILE}': expected a dict, got {type(found).__name__}")
    return found


def _cloudpickle() -> Any:
    try:
        import cloudpickle
    except ModuleNotFoundError:
        raise MissingDependency(
            f"custom objects need cloudpickle, which is not installed: {INSTALL}"
        ) from None
    return cloudpickle
