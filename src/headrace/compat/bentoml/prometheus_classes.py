"""`bentoml.metrics`: the metrics of prometheus_client, which reach the server's `/metrics`.

A metric counts in the process that it is used in, and the server adds up those of all processes.
"""

from __future__ import annotations

import importlib
from typing import Any

NAMES = ("Counter", "Enum", "Gauge", "Histogram", "Info", "Summary", "generate_latest",
         "text_string_to_metric_families")  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(
            f"Headrace's 'bentoml.metrics' has no '{name}', only {', '.join(NAMES)}"
        )
    try:
        # Not in the environment of every model.
        module = "prometheus_client.parser" if name.startswith("text_") else "prometheus_client"
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"'bentoml.metrics.{name}' needs prometheus_client: pip install prometheus-client"
        ) from error


def __dir__() -> list[str]:
    return sorted([*globals(), *NAMES])
