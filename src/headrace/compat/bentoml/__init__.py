"""BentoML's API for services, as of 1.0, and VtsServing's; found as `bentoml` and `vtsserving`.

What a name stands for is imported when it is first used, so that a service that needs scikit-learn
alone imports nothing else.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from headrace.lazy_modules import LAZY_MODULES, imported

__version__ = "1.0.25"
BENTOML_VERSION = VTSSERVING_VERSION = __version__

# Modules of ours that are found under `bentoml.` by the same names; bundles are `bentos` there.
SAME_MODULES = sorted(LAZY_MODULES - {"bundles"})
MODULES = {
    **{name: f"headrace.{name}" for name in SAME_MODULES},
    "bentos": "headrace.bundles",
    "exceptions": "headrace.compat.bentoml.exceptions",
}
NAMES = {
    "Context": "headrace.services:Context",
    "Model": "headrace.models:StoredModel",
    "Runnable": "headrace.runners:Runnable",
    "Runner": "headrace.runners:Runner",
    "Service": "headrace.services:Service",
    "Tag": "headrace.store.tag:Tag",
    "build": "headrace.bundles:build",
    "delete": "headrace.bundles:delete",
    "export_bento": "headrace.bundles:export_bundle",
    "get": "headrace.bundles:get",
    "import_bento": "headrace.bundles:import_bundle",
    "list": "headrace.bundles:list",
    "pull": "headrace.bundles:pull",
    "push": "headrace.bundles:push",
}


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return module_of(name)
    if name not in NAMES:
        raise AttributeError(
            f"Headrace's 'bentoml' has no '{name}'; docs/how-to/from-bentoml.md lists what it has"
        )
    path, _, attribute = NAMES[name].partition(":")
    return getattr(_module(path, name), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *MODULES, *NAMES])


def module_of(name: str) -> ModuleType:
    """The module of ours that `bentoml.{name}` is.

    Raises:
        ImportError: it is not part of this installation.
    """
    return _module(MODULES[name], name)


def _module(path: str, name: str) -> ModuleType:
    return imported(
        path, f"'bentoml.{name}' is {path} here, which this installation of Headrace does not have"
    )
