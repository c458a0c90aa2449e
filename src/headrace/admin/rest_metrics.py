"""The metrics of MLServer's HTTP server, under its names, for dashboards that read them.

Names and labels are those that `starlette_exporter` writes in MLServer 1.7.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from headrace.admin.buckets import cumulative
from headrace.dataplane.observers.rest_counters import RestCounters

LABELS = ("method", "path", "status_code", "app_name")


class RestCollector(Collector):
    """Reads the counters; `prefix` begins each name."""

    def __init__(self, counters: RestCounters, prefix: str) -> None:
        self._counters = counters
        self._prefix = prefix

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            f"{self._prefix}_requests", "Total HTTP requests", labels=LABELS
        )
        durations = HistogramMetricFamily(
            f"{self._prefix}_request_duration_seconds",
            "HTTP request duration, in seconds",
            labels=LABELS,
        )
        for (route, status), histogram in self._counters.durations.items():
            # The routes that are counted answer POST only.
            labels = ["POST", _as_in_mlserver(route), str(status), "mlserver"]
            requests.add_metric(labels, sum(histogram.counts))
            durations.add_metric(labels, cumulative(histogram), histogram.total)
        yield from (requests, durations)


def _as_in_mlserver(route: str) -> str:
    return route.replace("{name}", "{model_name}").replace("{version}", "{model_version}")
