"""What a module without a `Service` holds, and how that is served."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

from headrace.errors import listing, shorten
from headrace.model import Model

_EXPECTED = "expected a Service, such as svc = headrace.Service('name')"


def describe(module: ModuleType) -> str:
    """A sentence on what was expected, what was found, and what to do with it."""
    own = {name: each for name, each in vars(module).items() if not name.startswith("_")}
    classes = {
        name: each
        for name, each in own.items()
        if inspect.isclass(each) and each.__module__ == module.__name__
    }
    file = f"{module.__name__}.py"
    for name, each in classes.items():
        if issubclass(each, Model):
            return (
                f"{_EXPECTED}, found the model class '{shorten(name)}'; it is served by a folder "
                f'with a model-settings.json: {{"name": "{module.__name__}", "implementation": '
                f'"{module.__name__}.{name}"}}'
            )
    instances = {name: each for name, each in own.items() if not inspect.isclass(each)}
    for name, each in {**classes, **instances}.items():
        cls = each if inspect.isclass(each) else type(each)
        if any(_is_mlflows_model(base) for base in cls.__mro__):
            return (
                f"{_EXPECTED}, found '{shorten(name)}', a model of MLflow; save it with "
                f"mlflow.pyfunc.save_model('model', python_model='{file}') and serve the folder"
            )
    for name, each in instances.items():
        if not inspect.ismodule(each) and callable(getattr(each, "predict", None)):
            return (
                f"{_EXPECTED}, found '{shorten(name)}', a {shorten(type(each).__name__)}; a script "
                "that makes a model saves it, for example with MLflow's save_model, and what it "
                "saved is served"
            )
    found = _names(classes, own, module)
    return f"{_EXPECTED}, found {found or 'nothing'}"


def _is_mlflows_model(base: type) -> bool:
    return base.__module__.startswith("mlflow.") and hasattr(base, "predict")


def _names(classes: dict[str, Any], own: dict[str, Any], module: ModuleType) -> str:
    functions = [
        name
        for name, each in own.items()
        if inspect.isfunction(each) and each.__module__ == module.__name__
    ]
    return listing([*classes, *functions], 5)
