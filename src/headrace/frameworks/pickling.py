"""Pickles that carry the code of classes and functions which no package installs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from headrace.errors import InvalidInput, shorten
from headrace.runtimes import artefact


@contextmanager
def by_value(modules: Sequence[ModuleType]) -> Iterator[None]:
    """While this lasts, cloudpickle writes the code of these modules into its pickles.

    Raises:
        InvalidInput: one of them is not a module.
        MissingDependency: modules are named, and cloudpickle is not installed.
    """
    if not modules:
        yield
        return
    for module in modules:
        if not isinstance(module, ModuleType):
            raise InvalidInput(
                f"external_modules: expected imported modules, got {type(module).__name__}"
            )
    cloudpickle = artefact.require("cloudpickle", "pickle")
    registered: list[ModuleType] = []
    try:
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
            registered.append(module)
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def dump(value: Any, path: str) -> None:
    """Write a pickle that holds the code of classes defined in a notebook or script.

    Raises:
        InvalidInput: it holds something that cannot be pickled, such as a lock or an open file.
        MissingDependency: cloudpickle is not installed.
    """
    cloudpickle = artefact.require("cloudpickle", "pickle")
    with written(), open(path, "wb") as file:
        cloudpickle.dump(value, file)


@contextmanager
def written() -> Iterator[None]:
    """Turn what a model's parts raise while they are pickled into one error.

    Raises:
        InvalidInput: the model cannot be pickled.
    """
    try:
        yield
    except OSError:
        # The disk is full, or the like.
        raise
    except Exception as error:
        raise InvalidInput(f"the model cannot be pickled: {shorten(error, 200)}") from error
