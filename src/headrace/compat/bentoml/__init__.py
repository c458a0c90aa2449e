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

# Modules of ours that are found under `bentoml.` by the same names.
SAME_MODULES = sorted(LAZY_MODULES - {"bundles"})
MODULES = {
    **{name: f"headrace.{name}" for name in SAME_MODULES},
    "bentos": "headrace.compat.bentoml.bentos",
    "exceptions": "headrace.compat.bentoml.exceptions",
    "metrics": "headrace.compat.bentoml.prometheus_classes",
}
NAMES = {
    "Context": "headrace.services:Context",
    "Model": "headrace.models:StoredModel",
    "Runnable": "headrace.runners:Runnable",
    "Runner": "headrace.runners:Runner",
    "Service": "headrace.services:Service",
    "Tag": "headrace.store.tag:Tag",
    "build": "headrace.compat.bentoml.bentos:build",
    "delete": "headrace.compat.bentoml.bentos:delete",
    "export_bento": "headrace.compat.bentoml.bentos:export_bento",
    "get": "headrace.compat.bentoml.bentos:get",
    "import_bento": "headrace.compat.bentoml.bentos:import_bento",
    "list": "headrace.compat.bentoml.bentos:list",
    "load": "headrace.bundles:load",
    "pull": "headrace.compat.bentoml.bentos:pull",
    "push": "headrace.compat.bentoml.bentos:push",
}
# What exists in BentoML and not here, and what takes its place.
ELSEWHERE = {
    "HTTPServer": "`headrace serve` starts a server, and headrace.testing has one for tests",
    "GrpcServer": "`headrace serve` starts a server, which answers gRPC too",
    "batch": "`headrace infer` scores files",
    "client": "endpoints are plain HTTP, and headrace.Client calls them and models in binary",
    "container": "`headrace containerize` builds an image",
    "monitor": "count with bentoml.metrics, or write a log of your own",
    "ray": "headrace.asgi makes an application that Ray Serve can run",
    "serve": "`headrace serve` starts a server",
    "triton": "models run in this server's own workers",
}


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return module_of(name)
    if name not in NAMES:
        instead = f": {ELSEWHERE[name]}" if name in ELSEWHERE else ""
        raise AttributeError(
            f"Headrace's 'bentoml' has no '{name}'{instead}; "
            "docs/how-to/from-bentoml.md lists what it has"
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
