"""Prometheus text from the plain counters, rendered at scrape time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from headrace.admin.buckets import cumulative
from headrace.admin.user_metrics import UserMetrics
from headrace.dataplane import DataPlane
from headrace.errors import MethodNotAllowed, NotFound
from headrace.http.router import route_path
from headrace.serving.served_model import ServedModel

LABELS = ("model", "version")
# A worker that takes longer never holds up a scrape; its last answer is shown instead.
WORKER_TIMEOUT = 1.0


class Workers(Protocol):
    """What the page shows about all workers; see `headrace.executors.placement`."""

    @property
    def restarts(self) -> int: ...

    async def measured(self, timeout: float) -> list[list[Any]]: ...


class DescribedCollector(Collector, Protocol):
    """A collector that knows which metrics it may have."""

    def describe(self) -> Iterable[Metric]: ...


class MetricsApp:
    """The ASGI application of the metrics listener: one path, `/metrics`, and nothing else.

    Raises:
        NotFound, MethodNotAllowed: another path, or another method.
    """

    def __init__(self, dataplane: DataPlane, workers: Workers, path: str = "/metrics") -> None:
        self.path = path
        self._registry = CollectorRegistry()
        self.collector = ServerCollector(dataplane, workers)
        self._registry.register(self.collector)
        ProcessCollector(registry=self._registry)
        self._workers = workers
        self._users = UserMetrics(self._registry.collect())

    def add(self, collector: DescribedCollector) -> None:
        """Show the metrics of one more collector, in the place of users' of the same names."""
        self._registry.register(collector)
        self._users.reserve(collector.describe())

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if route_path(scope).rstrip("/") != self.path:
            raise NotFound(f"metrics are served at {self.path}")
        if scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"only GET is allowed on {self.path}")
        measured = await self._workers.measured(WORKER_TIMEOUT)
        body = generate_latest(self._registry)
        if any(measured):
            # Not on the event loop, because there may be a lot of it.
            body += await asyncio.to_thread(self._users.render, measured)
        headers = [
            (b"content-type", CONTENT_TYPE_LATEST.encode()),
            (b"content-length", b"%d" % len(body)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class ServerCollector(Collector):
    """Reads the counters. Labels come from served models only, so strangers add no series.

    The `model_infer_*` names are those of MLServer, so that its dashboards keep working.
    """

    def __init__(self, dataplane: DataPlane, workers: Workers) -> None:
        self._dataplane = dataplane
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        success = CounterMetricFamily(
            "model_infer_request_success", "Requests answered", labels=LABELS
        )
        failure = CounterMetricFamily(
            "model_infer_request_failure", "Requests failed", labels=(*LABELS, "code")
        )
        duration = HistogramMetricFamily(
            "model_infer_request_duration",
            "Seconds from received to answered or refused",
            labels=LABELS,
        )
        queued = GaugeMetricFamily("headrace_queued_requests", "Requests waiting", labels=LABELS)
        flight = GaugeMetricFamily(
            "headrace_in_flight_requests", "Waiting or running", labels=LABELS
        )
        batches = CounterMetricFamily("headrace_batches", "Batches executed", labels=LABELS)
        rows = CounterMetricFamily("headrace_batched_rows", "Rows executed", labels=LABELS)
        ready = GaugeMetricFamily("headrace_model_ready", "1 when it can answer", labels=LABELS)
        words = CounterMetricFamily(
            "headrace_passed_over_words",
            "Columns, params and keys of requests that their model does not know and did not get",
            labels=(*LABELS, "kind"),
        )
        for model in self._dataplane.models():
            labels = [model.name, model.version or ""]
            metrics = model.metrics
            success.add_metric(labels, metrics.successes)
            for code, count in metrics.failures.items():
                failure.add_metric([*labels, code], count)
            for kind, count in metrics.passed_over.items():
                words.add_metric([*labels, kind], count)
            duration.add_metric(labels, cumulative(metrics.duration), metrics.duration.total)
            ready.add_metric(labels, self._dataplane.is_up(model))
            batches.add_metric(labels, metrics.batching.batches)
            rows.add_metric(labels, metrics.batching.rows)
            if (batcher := model.batcher) is not None:
                queued.add_metric(labels, batcher.queued)
                flight.add_metric(labels, batcher.in_flight)
        yield from (success, failure, duration, queued, flight, batches, rows, ready, words)
        yield from _of_shadows(self._dataplane.shadows())
        yield CounterMetricFamily(
            "headrace_worker_restarts", "Workers started again", value=self._workers.restarts
        )


def _of_shadows(models: Iterable[ServedModel]) -> Iterator[Metric]:
    """What shadows did, each under its own version."""
    compared = CounterMetricFamily(
        "headrace_shadow_compared", "Answers compared with the primary's", labels=LABELS
    )
    disagreed = CounterMetricFamily(
        "headrace_shadow_disagreed", "Those that were different", labels=LABELS
    )
    errors = CounterMetricFamily(
        "headrace_shadow_errors", "Copies that failed", labels=(*LABELS, "code")
    )
    dropped = CounterMetricFamily(
        "headrace_shadow_dropped", "Copies that were not sent", labels=(*LABELS, "reason")
    )
    duration = HistogramMetricFamily(
        "headrace_shadow_duration", "Seconds from sent to answered or failed", labels=LABELS
    )
    for model in models:
        counts = model.metrics.shadow
        if counts is None:
            continue
        labels = [model.name, model.version or ""]
        compared.add_metric(labels, counts.compared)
        disagreed.add_metric(labels, counts.disagreed)
        for code, count in counts.errors.items():
            errors.add_metric([*labels, code], count)
        for reason, count in counts.dropped.items():
            dropped.add_metric([*labels, reason], count)
        duration.add_metric(labels, cumulative(counts.duration), counts.duration.total)
    yield from (compared, disagreed, errors, dropped, duration)
