"""The module search path of a worker that serves several models."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType


def put_working_directory() -> None:
    """Make modules in the working directory importable, before others unless already listed."""
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)


def put_first(folder: str) -> None:
    """Make modules in `folder` importable before all others, and have them imported again.

    Two models may each bring a module of the same name, and a reloaded model may bring a
    changed one: modules already imported under a name that `folder` defines are forgotten,
    unless they are part of Python or of an installed package that `folder` merely contains.
    """
    folder = os.path.abspath(folder)
    while folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    for name in modules_in(folder):
        module = sys.modules.get(name)
        if module is not None and _belongs_to_a_user(module):
            _forget(name)


def modules_in(folder: str) -> dict[str, str]:
    """The modules and packages in `folder`: the path of each, by name."""
    found: dict[str, str] = {}
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return found
    for entry in entries:
        if entry.name.endswith(".py"):
            found[entry.name[:-3]] = os.path.realpath(entry.path)
        elif entry.is_dir() and os.path.exists(os.path.join(entry.path, "__init__.py")):
            found[entry.name] = os.path.realpath(entry.path)
    return found


def _belongs_to_a_user(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if not file or module.__name__ == "__main__":
        return False
    top = module.__name__.partition(".")[0]
    if top == "headrace":
        return False
    file = os.path.abspath(file)
    installed = "site-packages" in file or "dist-packages" in file
    return not installed and not file.startswith(os.path.dirname(os.path.abspath(os.__file__)))


def _forget(name: str) -> None:
    for loaded in list(sys.modules):
        if loaded == name or loaded.startswith(name + "."):
            del sys.modules[loaded]
