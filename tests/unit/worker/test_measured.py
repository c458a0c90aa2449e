"""What user code measures: read from what it has imported, and bounded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from headrace.worker import measured


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """The default registry of prometheus_client, empty, and nothing of `mlserver.log`."""
    found = CollectorRegistry()
    library = SimpleNamespace(REGISTRY=found)
    monkeypatch.setitem(sys.modules, "prometheus_client", library)
    monkeypatch.delitem(sys.modules, "headrace.compat.mlserver.metrics", raising=False)
    monkeypatch.setattr(measured, "_left_out", set())
    return found


class Many(Collector):
    """A gauge with so many samples."""

    def __init__(self, name: str, samples: int) -> None:
        self._name = name
        self._samples = samples

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, "help", labels=["row"])
        for row in range(self._samples):
            family.add_metric([str(row)], row)
        yield family


def names() -> list[str]:
    return [family["name"] for family in measured.families()]


def test_what_nobody_has_imported_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("prometheus_client", "headrace.compat.mlserver.metrics"):
        monkeypatch.delitem(sys.modules, module, raising=False)

    assert measured.families() == []
    assert "prometheus_client" not in sys.modules


def test_a_counter_is_told_with_its_labels(registry: CollectorRegistry) -> None:
    Counter("rows", "Rows seen", ["kind"], registry=registry).labels("good").inc(3)
    (family,) = measured.families()

    assert (family["name"], family["type"], family["help"]) == ("rows", "counter", "Rows seen")
    assert ["rows_total", {"kind": "good"}, "3.0"] in family["samples"]


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 0.1])
def test_a_value_is_told_as_text_which_can_be_any_float(
    value: float, registry: CollectorRegistry
) -> None:
    Gauge("level", "Level", registry=registry).set(value)
    (family,) = measured.families()

    assert family["samples"] == [["level", {}, repr(value)]]


def test_what_the_library_says_of_the_process_is_left_to_the_server(
    registry: CollectorRegistry,
) -> None:
    for name in ("process_open_fds", "python_info", "processed"):
        Gauge(name, "help", registry=registry)

    assert names() == ["processed"]


def test_metrics_of_mlserver_come_beside_those_of_the_library(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"name": "mine", "type": "histogram", "help": "", "samples": []}
    module = SimpleNamespace(families=lambda: [own], registries=list)
    monkeypatch.setitem(sys.modules, "headrace.compat.mlserver.metrics", module)
    Gauge("theirs", "help", registry=registry)

    assert names() == ["mine", "theirs"]


def test_a_collector_that_raises_costs_its_library_and_is_logged(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Collector):
        def describe(self) -> list[Any]:
            return []

        def collect(self) -> Iterator[Any]:
            raise OSError("no")

    registry.register(Broken())

    assert measured.families() == []
    assert "OSError: no" in caplog.text


def test_as_many_samples_as_may_be_are_told(registry: CollectorRegistry) -> None:
    registry.register(Many("most", measured.MOST_SAMPLES))

    assert names() == ["most"]


def test_a_metric_above_the_bound_is_left_out_and_warned_about_once(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.register(Many("small", 1))
    registry.register(Many("many", measured.MOST_SAMPLES))

    assert names() == names() == ["small"]
    assert caplog.text.count("metric many") == 1


def test_a_metric_after_one_above_the_bound_is_shown(registry: CollectorRegistry) -> None:
    registry.register(Many("many", measured.MOST_SAMPLES + 1))
    registry.register(Many("small", 1))

    assert names() == ["small"]
