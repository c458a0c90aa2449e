"""What a replica counts is passed on to Ray, whose counters know only by how much they grow."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from headrace.ray_metrics import RayMetrics


class FakeRay(ModuleType):
    """`ray.serve.metrics` as far as it is used; `values` is what Ray would show."""

    def __init__(self) -> None:
        super().__init__("metrics")
        self.values: dict[tuple[str, tuple[str, ...]], float] = {}

    def Counter(self, name: str, description: str, tag_keys: tuple[str, ...]) -> Any:
        return FakeMetric(self, f"{name}_total", tag_keys)

    def Gauge(self, name: str, description: str, tag_keys: tuple[str, ...]) -> Any:
        return FakeMetric(self, name, tag_keys)


class FakeMetric:
    def __init__(self, ray: FakeRay, name: str, tag_keys: tuple[str, ...]) -> None:
        self._ray = ray
        self._name = name
        self._keys = tag_keys

    def inc(self, value: float, tags: dict[str, str]) -> None:
        if value <= 0:
            raise ValueError(f"value must be >0, got {value}")
        key = self._key(tags)
        self._ray.values[key] = self._ray.values.get(key, 0.0) + value

    def set(self, value: float, tags: dict[str, str]) -> None:
        self._ray.values[self._key(tags)] = value

    def _key(self, tags: dict[str, str]) -> tuple[str, tuple[str, ...]]:
        assert tuple(tags) == self._keys
        return self._name, tuple(tags.values())


def counter(**values: float) -> Metric:
    family = CounterMetricFamily("rows", "Rows", labels=("model",))
    for model, value in values.items():
        family.add_metric([model], value)
    return family


def gauge(value: float) -> Metric:
    family = GaugeMetricFamily("queued", "Waiting", labels=("model",))
    family.add_metric(["a"], value)
    return family


def histogram(*buckets: tuple[str, float], total: float) -> Metric:
    family = HistogramMetricFamily("seconds", "Seconds", labels=("model",))
    family.add_metric(["a"], list(buckets), total)
    return family


@pytest.mark.parametrize(
    ("rounds", "values"),
    [
        ([[counter(a=3)]], {("rows_total", ("a",)): 3}),
        ([[counter(a=3)], [counter(a=3, b=1)], [counter(a=5, b=1)]],
         {("rows_total", ("a",)): 5, ("rows_total", ("b",)): 1}),
        ([[counter(a=5)], [counter(b=1)], [counter(a=2, b=1)], [counter(a=3, b=1)]],
         {("rows_total", ("a",)): 8, ("rows_total", ("b",)): 1}),
        ([[counter(a=0)]], {}),
        ([[gauge(4)], [gauge(0)]], {("queued", ("a",)): 0}),
        ([[histogram(("0.1", 1), ("+Inf", 2), total=1.5)],
          [histogram(("0.1", 1), ("+Inf", 3), total=2.5)]],
         {("seconds_bucket_total", ("a", "0.1")): 1, ("seconds_bucket_total", ("a", "+Inf")): 3,
          ("seconds_count_total", ("a",)): 3, ("seconds_sum_total", ("a",)): 2.5}),
    ],
    ids=["counter", "grown", "from zero again", "zero", "gauge", "histogram"],
)  # fmt: skip
def test_ray_shows_what_was_counted(rounds: list[list[Metric]], values: dict[Any, float]) -> None:
    ray = FakeRay()
    metrics = RayMetrics(ray)
    for families in rounds:
        metrics.update(families)

    assert ray.values == values
