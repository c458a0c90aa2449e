"""What runtimes import from `mlserver.metrics`."""

from __future__ import annotations

from typing import Any

from headrace.compat.mlserver.metrics import registry
from headrace.compat.mlserver.metrics.context import families, log, register
from headrace.compat.mlserver.metrics.registry import made as registries

__all__ = ["REGISTRY", "families", "log", "register", "registries"]


def __getattr__(name: str) -> Any:
    if name == "REGISTRY":
        return registry.REGISTRY
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
