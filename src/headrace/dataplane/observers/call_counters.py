"""Counts how the calls of each model end; `admin/metrics.py` renders the counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.dataplane.observers.observer import Observer

if TYPE_CHECKING:
    from headrace.dataplane.call import Call
    from headrace.errors import HeadraceError


class MetricsObserver(Observer):
    """Successes, failures by kind, and how long both took. Callers who left are neither."""

    def answered(self, call: Call) -> None:
        if call.model is not None:
            metrics = call.model.metrics
            metrics.successes += 1
            metrics.duration.observe(call.seconds)

    def refused(self, call: Call, error: HeadraceError) -> None:
        # No series without a model: strangers could create as many as they like.
        if call.model is not None:
            metrics = call.model.metrics
            seconds = call.seconds
            metrics.failures[error.kind] = metrics.failures.get(error.kind, 0) + 1
            metrics.duration.observe(seconds)
            metrics.failed_for += seconds
