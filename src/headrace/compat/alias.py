"""Lets `import mlserver` and the like find our packages where the originals are not installed."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PACKAGE = "headrace.compat"
# The name that users import, and the package that it finds.
ALIASES = {
    "bentoml": f"{PACKAGE}.bentoml",
    "mlflow_pluggable_scoring_server": f"{PACKAGE}.mlflow_pluggable_scoring_server",
    "mlserver": f"{PACKAGE}.mlserver",
    "vtsserving": f"{PACKAGE}.bentoml",
}
# Their submodules are modules of ours elsewhere, each imported when it is first asked for.
LAZY = ("bentoml", "vtsserving")


def offer() -> None:
    """Answer imports of `ALIASES` that nothing else on the module search path provides."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        # Last of all finders, so that an installed package of that name is found first.
        sys.meta_path.append(_Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in ALIASES:
            return ModuleSpec(fullname, _Loader(), is_package=True)
        alias, _, name = fullname.partition(".")
        if alias in LAZY and _is_ours(alias) and name in sys.modules[alias].MODULES:
            return ModuleSpec(fullname, _ModuleLoader())
        return None


def _is_ours(alias: str) -> bool:
    return sys.modules.get(alias) is sys.modules.get(ALIASES[alias])


class _Loader(Loader):
    def exec_module(self, module: ModuleType) -> None:
        """Register our modules under both names: every class must exist only once."""
        alias = module.__name__
        target = ALIASES[alias]
        package = importlib.import_module(target)
        found = pkgutil.walk_packages(package.__path__, target + ".")
        for name in [target, *(info.name for info in found)]:
            sys.modules[alias + name[len(target) :]] = importlib.import_module(name)


class _ModuleLoader(Loader):
    def exec_module(self, module: ModuleType) -> None:
        """Register a module of ours under a name such as `bentoml.io` as well."""
        alias, _, name = module.__name__.partition(".")
        sys.modules[module.__name__] = sys.modules[alias].module_of(name)
