"""What the workers measured, added up as Prometheus text."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.parser import text_string_to_metric_families

from headrace.admin.user_metrics import UserMetrics
from headrace.worker import measured


def families(make):
    """The families of a worker in which `make` made metrics in a registry."""
    registry = CollectorRegistry()
    make(registry)
    return measured._collected(registry)


def samples(text):
    """Values by name and labels, as a Prometheus server reads them."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def rendered(*workers, server=None):
    return samples(UserMetrics((server or CollectorRegistry()).collect()).render(workers))


def test_equal_samples_of_all_workers_are_added():
    def count(registry):
        Counter("seen", "", ["kind"], registry=registry).labels(kind="a").inc(2)

    assert rendered(families(count), families(count)) == {("seen_total", ("kind", "a")): 4}


def test_the_buckets_of_histograms_are_added():
    def observe(registry):
        Histogram("took", "", buckets=[1, 2], registry=registry).observe(1.5)

    found = rendered(families(observe), families(observe))

    assert found["took_bucket", ("le", "1.0")] == 0
    assert found["took_bucket", ("le", "2.0")] == 2
    assert found["took_count",] == 2
    assert found["took_sum",] == 3


def test_info_is_not_added():
    def info(registry):
        Info("build", "", registry=registry).info({"version": "1"})

    assert rendered(families(info), families(info)) == {("build_info", ("version", "1")): 1}


def test_infinite_values_arrive():
    def gauge(registry):
        Gauge("heat", "", registry=registry).set(float("inf"))

    assert rendered(families(gauge)) == {("heat",): float("inf")}


@pytest.mark.parametrize("name", ["taken", "taken_total", "headrace_mine", "not a name"])
def test_a_name_that_cannot_be_used_is_left_out_with_one_warning(name, caplog):
    server = CollectorRegistry()
    Counter("taken", "", registry=server)
    metrics = UserMetrics(server.collect())
    family = {"name": name, "type": "gauge", "help": "", "samples": [[name, {}, "1"]]}

    with caplog.at_level(logging.WARNING):
        found = [metrics.render([[family]]) for _ in range(2)]

    assert found == [b"", b""]
    assert caplog.text.count("is not shown") == 1


def test_a_name_of_two_types_shows_the_first(caplog):
    gauges = families(lambda registry: Gauge("x", "", registry=registry).set(1))
    counters = families(lambda registry: Counter("x", "", registry=registry).inc())

    assert rendered(gauges, counters) == {("x",): 1}
    assert "its type is not the same" in caplog.text


def test_an_unknown_type_affects_no_other_metric(caplog):
    odd = {"name": "odd", "type": "spiral", "help": "", "samples": []}
    gauges = families(lambda registry: Gauge("x", "", registry=registry).set(1))

    assert rendered([odd, *gauges]) == {("x",): 1}
    assert "metric odd is not shown" in caplog.text


def test_a_worker_shows_no_more_samples_than_it_may(caplog):
    few = {"name": "few", "samples": [0]}
    many = {"name": "many", "samples": [0] * measured.MOST_SAMPLES}

    assert measured._bounded([few, many]) == [few]
    assert "metric many is left out" in caplog.text


def test_a_family_with_a_broken_sample_is_not_shown_in_part():
    def count(registry):
        Counter("seen", "", ["kind"], registry=registry).labels(kind="a").inc(2)

    broken = families(count)
    broken[0]["samples"].append(["seen_total", {"kind": "b"}, "many"])

    assert rendered(broken) == {}
