"""MLServer's metrics under its names and with its labels, for dashboards that read them.

Names, labels and buckets are those of MLServer 1.7, which takes those of HTTP from
`starlette_exporter` and those of gRPC from `py-grpc-prometheus`.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from headrace.admin.buckets import cumulative
from headrace.dataplane.observers.mlserver_counters import MLServerCounters
from headrace.observability.counters import Histogram
from headrace.protocol.open_inference import GRPC_SERVICE

# As long as `metrics_rest_server_prefix` is not set.
DEFAULT_PREFIX = "rest_server"
APP = "mlserver"
OF_HTTP = ("method", "path", "status_code", "app_name")
OF_GRPC = ("grpc_type", "grpc_service", "grpc_method")
OF_MODEL = ("model_name", "model_version")


class MLServerCollector(Collector):
    """Reads the counters; `prefix` begins the names of those of HTTP.

    A metric without a sample is left out, as MLServer does.
    """

    def __init__(self, counters: MLServerCounters, prefix: str, has_workers: bool) -> None:
        self._counters = counters
        self._prefix = prefix
        self._has_workers = has_workers

    def describe(self) -> list[Metric]:
        """Every metric that there may be."""
        return [*self._of_http(), *self._of_grpc(), *self._of_queues()]

    def collect(self) -> Iterator[Metric]:
        """The metrics that have samples."""
        return (metric for metric in self.describe() if metric.samples)

    def _of_http(self) -> Iterator[Metric]:
        prefix, counters = self._prefix, self._counters
        requests = CounterMetricFamily(f"{prefix}_requests", "Total HTTP requests", labels=OF_HTTP)
        durations = HistogramMetricFamily(
            f"{prefix}_request_duration_seconds",
            "HTTP request duration, in seconds",
            labels=OF_HTTP,
        )
        in_progress = GaugeMetricFamily(
            f"{prefix}_requests_in_progress",
            "HTTP requests that are now being answered",
            labels=("method", "app_name"),
        )
        for (method, route, status), histogram in counters.requests.items():
            labels = [method, _as_in_mlserver(route), str(status), APP]
            requests.add_metric(labels, sum(histogram.counts))
            _add(durations, labels, histogram)
        for method, count in counters.in_progress().items():
            in_progress.add_metric([method, APP], count)
        yield from (requests, durations, in_progress)

    def _of_grpc(self) -> Iterator[Metric]:
        counters = self._counters
        started = CounterMetricFamily("grpc_server_started", "Calls begun", labels=OF_GRPC)
        handled = CounterMetricFamily(
            "grpc_server_handled", "Calls ended", labels=(*OF_GRPC, "grpc_code")
        )
        handling = HistogramMetricFamily(
            "grpc_server_handling_seconds", "Seconds until a call ended", labels=OF_GRPC
        )
        received = CounterMetricFamily(
            "grpc_server_msg_received", "Messages of streams received", labels=OF_GRPC
        )
        sent = CounterMetricFamily(
            "grpc_server_msg_sent", "Messages of streams sent", labels=OF_GRPC
        )
        for name, count in counters.started.items():
            started.add_metric(_unary(name), count)
        for (name, code), count in counters.handled.items():
            handled.add_metric([*_unary(name), code], count)
        for name, histogram in counters.handling.items():
            _add(handling, _unary(name), histogram)
        for name, count in counters.received.items():
            received.add_metric(_stream(name), count)
        for name, count in counters.sent.items():
            sent.add_metric(_stream(name), count)
        yield from (started, handled, handling, received, sent)

    def _of_queues(self) -> Iterator[Metric]:
        counters = self._counters
        batches = HistogramMetricFamily(
            "batch_request_queue", "Requests that wait for a batch", labels=OF_MODEL
        )
        for labels, histogram in counters.queued.items():
            _add(batches, labels, histogram)
        yield batches
        workers = HistogramMetricFamily(
            "parallel_request_queue", "Requests that the workers have, or will get"
        )
        if self._has_workers and any(counters.in_flight.counts):
            _add(workers, (), counters.in_flight)
        yield workers


def _add(
    metric: HistogramMetricFamily, labels: list[str] | tuple[str, ...], histogram: Histogram
) -> None:
    metric.add_metric(labels, cumulative(histogram), histogram.total)


def _unary(name: str) -> list[str]:
    return ["UNARY", GRPC_SERVICE, name]


def _stream(name: str) -> list[str]:
    return ["BIDI_STREAMING", GRPC_SERVICE, name]


def _as_in_mlserver(route: str) -> str:
    return route.replace("{name}", "{model_name}").replace("{version}", "{model_version}")
