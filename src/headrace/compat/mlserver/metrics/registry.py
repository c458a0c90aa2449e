"""`MetricsRegistry` and `REGISTRY`, made when a runtime first asks for them.

They extend a class of prometheus_client, which workers need not have.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

from headrace.compat.mlserver.metrics import context
from headrace.compat.mlserver.metrics.errors import MetricNotFound


def __getattr__(name: str) -> Any:
    if name == "MetricsRegistry":
        return _made_class()
    if name == "REGISTRY":
        return _made_registry()
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def made() -> list[Any]:
    """The one registry that runtimes share, if any of them has asked for it."""
    return [_made_registry()] if _made_registry.cache_info().currsize else []


@functools.lru_cache(maxsize=1)
def _made_registry() -> Any:
    return _made_class()(auto_describe=True)


@functools.lru_cache(maxsize=1)
def _made_class() -> Any:
    base: Any = importlib.import_module("prometheus_client").CollectorRegistry

    class MetricsRegistry(base):
        """Metrics by name; the histograms of `mlserver.register` are in `REGISTRY`."""

        def exists(self, metric_name: str) -> bool:
            """Whether there is a metric of that name."""
            return self._found(metric_name) is not None

        def get(self, metric_name: str) -> Any:
            """The metric of that name.

            Raises:
                MetricNotFound: no metric has that name.
            """
            found = self._found(metric_name)
            if found is None:
                raise MetricNotFound(metric_name)
            return found

        __contains__ = exists
        __getitem__ = get

        def _found(self, metric_name: str) -> Any:
            found = self._names_to_collectors.get(metric_name)
            if found is None and any(self is known for known in made()):
                return context.registered(metric_name)
            return found

    return MetricsRegistry
