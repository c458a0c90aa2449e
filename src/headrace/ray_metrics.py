"""Passes a replica's metrics on to Ray, which exports those of all replicas."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

# Seconds between two rounds. Ray itself reports every ten.
INTERVAL = 5.0


class RayMetrics:
    """Metrics of Ray with the values of ours, under the same names.

    Ray puts `ray_` before the names, and adds the application, the deployment and the replica to
    the labels. It lets no process set the buckets of a histogram, so they are counters there, with
    the same names and labels that a histogram has.
    """

    def __init__(self, metrics: ModuleType) -> None:
        self._metrics = metrics
        self._made: dict[str, Any] = {}
        self._counted: dict[tuple[str, tuple[str, ...]], float] = {}

    def update(self, families: Iterable[Metric]) -> None:
        """Take the present values."""
        for family in families:
            for sample in family.samples:
                if family.type == "gauge":
                    self._metric("Gauge", family, sample).set(sample.value, sample.labels)
                elif not sample.name.endswith("_created"):
                    self._count(family, sample)

    def _count(self, family: Metric, sample: Sample) -> None:
        key = (sample.name, tuple(sample.labels.values()))
        counted = self._counted.get(key, 0.0)
        # A version that was unloaded and is loaded again counts from zero.
        more = sample.value - counted if sample.value >= counted else sample.value
        self._counted[key] = sample.value
        if more > 0:
            self._metric("Counter", family, sample).inc(more, sample.labels)

    def _metric(self, kind: str, family: Metric, sample: Sample) -> Any:
        # Ray adds the ending to counters itself.
        name = sample.name.removesuffix("_total")
        if name not in self._made:
            make = getattr(self._metrics, kind)
            self._made[name] = make(name, family.documentation, tuple(sample.labels))
        return self._made[name]
