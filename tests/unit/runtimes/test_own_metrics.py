"""Metrics that a service's module defines each time it is loaded."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY, Counter, Gauge

from headrace.runtimes.service.own_metrics import defined_again


@pytest.fixture(autouse=True)
def leave_nothing():
    before = set(REGISTRY._collector_to_names)
    yield
    for collector in set(REGISTRY._collector_to_names) - before:
        REGISTRY.unregister(collector)


def load(folder="own_metrics"):
    with defined_again("service", folder):
        return Counter("own", "Defined by the module")


def test_a_module_that_is_loaded_again_defines_its_metrics_again():
    load().inc()
    load().inc(2)

    assert REGISTRY.get_sample_value("own_total") == 2


def test_a_module_whose_metrics_were_unregistered_is_loaded_again():
    REGISTRY.unregister(load("unregistered"))
    load("unregistered").inc(2)

    assert REGISTRY.get_sample_value("own_total") == 2


def test_the_metrics_stay_if_loading_the_module_again_fails():
    def fail():
        with defined_again("service", "failing"):
            Gauge("half", "Defined before the module fails")
            raise ValueError("no database")

    load("failing").inc(3)
    with pytest.raises(ValueError, match="no database"):
        fail()

    assert REGISTRY.get_sample_value("own_total") == 3
    assert REGISTRY.get_sample_value("half") is None
