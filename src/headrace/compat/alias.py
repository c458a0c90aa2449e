"""Lets `import mlserver` find our own package where MLServer itself is not installed."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ALIAS = "mlserver"
TARGET = "headrace.compat.mlserver"


def offer() -> None:
    """Answer imports of `mlserver` that nothing else on the module search path answers."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        # Last of all finders, so that an installed MLServer is found before.
        sys.meta_path.append(_Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(ALIAS, _Loader(), is_package=True) if fullname == ALIAS else None


class _Loader(Loader):
    def exec_module(self, module: ModuleType) -> None:
        """Put our modules in place under both names: every class must exist only once."""
        package = importlib.import_module(TARGET)
        found = pkgutil.walk_packages(package.__path__, TARGET + ".")
        for name in [TARGET, *(info.name for info in found)]:
            sys.modules[ALIAS + name[len(TARGET) :]] = importlib.import_module(name)
