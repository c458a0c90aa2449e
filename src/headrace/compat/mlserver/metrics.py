"""Metrics that runtimes record. They stay in the worker: `/metrics` does not show them yet."""

from __future__ import annotations

import threading
from typing import Any

_metrics: dict[str, Histogram] = {}
_lock = threading.Lock()


class Histogram:
    """How many values were observed and their sum."""

    def __init__(self, name: str, description: str = "") -> None:
        self.name = name
        self.description = description
        self.count = 0
        self.sum = 0.0

    def observe(self, amount: float, exemplar: Any = None) -> None:
        """Add one value."""
        with _lock:
            self.count += 1
            self.sum += float(amount)


def register(name: str, description: str) -> Histogram:
    """The histogram of that name, made if there is none."""
    return _metrics.setdefault(name, Histogram(name, description))


def log(**metrics: float) -> None:
    """Observe one value for each histogram named; those not registered are made."""
    for name, value in metrics.items():
        register(name, name).observe(value)
