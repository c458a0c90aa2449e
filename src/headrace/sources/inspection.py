"""What can be known of a model before anything of it is imported or built."""

from __future__ import annotations

import os
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from headrace.environments import build, mlflow_files, need, satisfaction
from headrace.errors import InvalidModel, MissingDependency, did_you_mean, listing, shorten
from headrace.runtimes import artefact, catalog
from headrace.runtimes.catalog import MLFLOW, RuntimeEntry
from headrace.settings import ModelSettings

MOST_NAMED = 5


def inspect(settings: ModelSettings, env_manager: str) -> list[str]:
    """Check that what a model names is there; returns what is worth a note.

    Raises:
        InvalidModel: a file or a class is missing, or an environment lacks what the model needs.
        MissingDependency: a framework is not installed; the message says how to install it.
    """
    entry = _runtime(settings.implementation)
    path = artefact.folder_or_file(settings)
    if ":" in path.partition("/")[0]:
        return [f"'{shorten(path)}' is fetched when the model is loaded, and was not looked at"]
    if path and not os.path.exists(path):
        raise InvalidModel(f"its uri '{shorten(path, 300)}' does not exist")
    if entry is None and not settings.implementation.startswith("headrace."):
        _require_class(settings)
    if entry is MLFLOW and mlflow_files.read(path) is None:
        raise InvalidModel("there is no MLmodel file where its uri leads to")
    if settings.environment_path:
        if not (Path(settings.environment_path) / "bin" / "python").exists():
            raise InvalidModel("its environment_path has no bin/python")
        return []
    if settings.environment_tarball:
        if not os.path.isfile(settings.environment_tarball):
            raise InvalidModel("its environment_tarball does not exist")
        return []
    wanted = need.of_model(settings)
    lacking = satisfaction.unmet(wanted) if wanted.is_stated else []
    if env_manager == "uv" and wanted.is_stated or (lacking and env_manager == "auto"):
        build.uv_program()
        why = f", which lacks {listing(lacking, MOST_NAMED)}" if lacking else ""
        return [f"it gets an environment of its own instead of the server's{why}"]
    if lacking:
        raise InvalidModel(
            f"the server's environment lacks {listing(lacking, MOST_NAMED)}, and --env-manager is "
            "local"
        )
    if entry is not None:
        _require_frameworks(entry, path)
    return []


def _runtime(implementation: str) -> RuntimeEntry | None:
    """The runtime of that name, or of that class."""
    paths = {entry.class_path: entry for entry in catalog.RUNTIMES}
    entry = catalog.find(implementation) or paths.get(implementation)
    if entry is None and ":" not in implementation and "." not in implementation:
        names = [entry.name for entry in catalog.RUNTIMES]
        hint = did_you_mean(implementation, names) or f"; the runtimes are {', '.join(names)}"
        raise InvalidModel(f"there is no runtime '{shorten(implementation)}'{hint}")
    return entry


def _require_class(settings: ModelSettings) -> None:
    """Look for the file or the top module of a user's class, without importing it."""
    module, colon, _ = settings.implementation.rpartition(":")
    if not colon:
        module = settings.implementation.rpartition(".")[0]
    if module.endswith(".py"):
        found = os.path.isfile(os.path.join(settings.folder, module))
    else:
        top = module.partition(".")[0]
        # MLServer's names are ours, once a model of its kind is loaded.
        found = top in ("mlserver", "bentoml") or bool(
            PathFinder.find_spec(top, [settings.folder or os.getcwd(), os.getcwd()])
            or find_spec(top)
        )
    if not found:
        shown = shorten(settings.implementation)
        raise InvalidModel(f"implementation '{shown}': there is no module '{shorten(module)}'")


def _require_frameworks(entry: RuntimeEntry, path: str) -> None:
    """Look for the modules that a runtime imports."""
    if entry is MLFLOW:
        saved = mlflow_files.read(path)
        loader = saved.loader if saved is not None and not saved.is_configured else ""
        native = (each for each in catalog.RUNTIMES if loader in each.mlflow_readers)
        entry = next(native, entry)
    for module in entry.frameworks:
        if find_spec(module) is None:
            raise MissingDependency(f"{module} is not installed: {entry.install}")
