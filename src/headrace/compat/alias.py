"""Lets `import mlserver` and the like find our packages where the originals are not installed."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ALIASES = ("mlserver", "mlflow_pluggable_scoring_server")
PACKAGE = "headrace.compat"


def offer() -> None:
    """Answer imports of `ALIASES` that nothing else on the module search path provides."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        # Last of all finders, so that an installed package of that name is found first.
        sys.meta_path.append(_Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, _Loader(), is_package=True) if fullname in ALIASES else None


class _Loader(Loader):
    def exec_module(self, module: ModuleType) -> None:
        """Register our modules under both names: every class must exist only once."""
        alias = module.__name__
        target = f"{PACKAGE}.{alias}"
        package = importlib.import_module(target)
        found = pkgutil.walk_packages(package.__path__, target + ".")
        for name in [target, *(info.name for info in found)]:
            sys.modules[alias + name[len(target) :]] = importlib.import_module(name)
