"""Adapters from model frameworks to `Model`, and the lookup of classes by implementation name.

Importing this package loads no framework, and not numpy: the command line reads the catalogue.
"""

from __future__ import annotations

import importlib
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, cast

from headrace.errors import HeadraceError, InvalidModel, load_failure, shorten
from headrace.runtimes import catalog, import_path, trust
from headrace.runtimes.import_lock import IMPORTS
from headrace.settings import ModelSettings

if TYPE_CHECKING:
    from headrace.model import Model


def create(settings: ModelSettings) -> Model:
    """Import the class that `settings.implementation` names, and create the model without loading.

    A user's class is written `module:Class` or `module.Class`; its module is looked for in
    the model's folder, then in the working directory, then wherever Python looks. `file.py:Class`
    names a file, relative to the model's folder; the file's own folder is then searched first.
    A class that is not a `Model` creates one in its `from_settings`, as MLServer's do, or is a
    plugin.

    Raises:
        InvalidModel: there is no such module or class, or it is not a `Model`.
        LoadFailed: its module or its constructor raised.
    """
    trust.check(settings)
    known = catalog.find(settings.implementation)
    if settings.trust == trust.FORMATS:
        # Only what is in the catalogue is left, and nothing is looked for in the model's folder.
        known = catalog.entry_of(settings.implementation)
    # All threads share one module search path.
    with IMPORTS.held():
        if known is None:
            # Imported here: most models are of a known runtime, and load the sooner without it.
            from headrace.compat import alias

            alias.offer()
            if settings.trust == "any":
                import_path.put_working_directory()
            if settings.folder:
                import_path.put_first(settings.folder)
        cls = _find(known.class_path if known else _importable(settings))
    make = cls if known else _maker(cls, settings)
    try:
        model: Model = make(settings)
    except HeadraceError:
        raise
    except Exception as error:
        raise load_failure(
            f"implementation '{shorten(settings.implementation)}' could not be created: "
            f"{type(error).__name__} was raised",
            error,
        ) from error
    return model


def _maker(cls: Any, settings: ModelSettings) -> Callable[[ModelSettings], Model]:
    """What makes a model of a user's class."""
    from headrace.runtimes.plugin.plugin_runtime import PluginRuntime, is_plugin

    make: Any = getattr(cls, "from_settings", cls)
    if make is cls and is_plugin(cls):
        return partial(PluginRuntime.of, cls)
    if not (isinstance(cls, type) and (make is not cls or callable(getattr(cls, "infer", None)))):
        raise InvalidModel(
            f"implementation '{shorten(settings.implementation)}' is not a subclass of Model "
            "or BasePlugin"
        )
    return cast("Callable[[ModelSettings], Model]", make)


# Not in the catalogue: they are no framework's, and a source names them, never a settings file.
SERVICE = "headrace.runtimes.service.service_runtime:ServiceRuntime"
RUNNABLE = "headrace.runtimes.service.runnable_runtime:RunnableRuntime"


def needs_worker(settings: ModelSettings) -> bool:
    """Whether a model never runs inside the server, even where others do.

    It is code in a service's own files, which may change while the server runs.
    """
    return settings.implementation in (SERVICE, RUNNABLE)


def own_modules(settings: ModelSettings) -> dict[str, str]:
    """The modules that a model brings with it: the path of each, by name.

    A process can hold only one module of a name. Models that bring different ones must not share
    a process: one that imports late, or reads a pickle, would get the other's.
    """
    known = catalog.find(settings.implementation)
    if known is not None:
        folders = known.module_folders(settings)
    else:
        file = settings.implementation.rpartition(":")[0]
        folders = [settings.folder, os.path.dirname(os.path.join(settings.folder, file))]
    found: dict[str, str] = {}
    for folder in filter(None, folders):
        found.update(import_path.modules_in(folder))
    return found


def _importable(settings: ModelSettings) -> str:
    """The implementation, with a file in it replaced by a module that can be imported."""
    path, _, name = settings.implementation.rpartition(":")
    if not path.endswith(".py"):
        return settings.implementation
    path = os.path.abspath(os.path.join(settings.folder, path))
    if not os.path.isfile(path):
        raise InvalidModel(
            f"implementation '{shorten(settings.implementation)}' could not be imported: there "
            "is no such file"
        )
    folder, file = os.path.split(path)
    import_path.put_first(folder)
    module = file[:-3]
    # A module still loaded under that name is Python's own, or installed.
    known = sys.modules.get(module)
    if "." in module or (known is not None and getattr(known, "__file__", None) != path):
        raise InvalidModel(
            f"implementation '{shorten(settings.implementation)}' could not be imported: its file "
            "has the name of another module, or a dot in its name; rename it"
        )
    return f"{module}:{name}"


def _find(implementation: str) -> Any:
    shown = shorten(implementation)
    module_name, colon, name = implementation.partition(":")
    if not colon:
        module_name, _, name = implementation.rpartition(".")
    if not module_name or not name:
        runtimes = ", ".join(entry.name for entry in catalog.RUNTIMES)
        raise InvalidModel(
            f"implementation '{shown}' is neither a runtime ({runtimes}) nor of the form "
            "module:Class"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        wanted = shorten(error.name or module_name)
        raise InvalidModel(
            f"implementation '{shown}' could not be imported: there is no module '{wanted}'"
            f"{catalog.instead_of(implementation)}"
        ) from error
    except Exception as error:
        raise load_failure(
            f"implementation '{shown}' could not be imported: its module raised "
            f"{type(error).__name__}",
            error,
        ) from error
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise InvalidModel(
            f"implementation '{shown}': module '{shorten(module_name)}' has no class "
            f"'{shorten(name)}'"
        )
    return found
