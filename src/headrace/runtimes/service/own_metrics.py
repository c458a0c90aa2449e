"""The metrics that a service's module defines, which it defines again when it is loaded again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# The collectors that a module has registered with prometheus_client, by the module's place.
_known: dict[tuple[str, str], set[Any]] = {}


@contextmanager
def defined_again(module: str, folder: str) -> Iterator[None]:
    """While this lasts, the module is imported: what it registered before makes room.

    If it raises, what it had registered before is there again.
    """
    key = module, folder
    # Without those that the service has unregistered itself, as in a stop hook.
    before = _known.pop(key, set()) & _collectors()
    for collector in before:
        _registry().unregister(collector)
    others = _collectors()
    try:
        yield
    except BaseException:
        for collector in _collectors() - others:
            _registry().unregister(collector)
        for collector in before:
            _registry().register(collector)
        _known[key] = before
        raise
    _known[key] = _collectors() - others


def _collectors() -> set[Any]:
    # A library that nobody has imported holds nothing.
    registry = _registry()
    return set() if registry is None else set(registry._collector_to_names)


def _registry() -> Any:
    library = sys.modules.get("prometheus_client")
    return None if library is None else library.REGISTRY
