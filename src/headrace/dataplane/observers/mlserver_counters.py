"""Counts what MLServer counts; `admin/mlserver_metrics.py` renders it under MLServer's names."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from headrace.dataplane.observers.observer import Observer
from headrace.observability.counters import DefaultHistogram

if TYPE_CHECKING:
    from headrace.dataplane.call import Call
    from headrace.errors import HeadraceError

# Callers choose the method even of a request that is refused, and must not add series at will.
METHODS = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))


class MLServerCounters(Observer):
    """Requests of HTTP by method, route and status, calls of gRPC by method and code, and queues.

    Requests to the routes in `skipped` are not counted. Routes are templates and statuses are
    ours. The calls of runners are parts of others, and only counted in `in_flight`.
    """

    def __init__(self, skipped: frozenset[str]) -> None:
        self._skipped = skipped
        # Seconds by method, route and status.
        self.requests: defaultdict[tuple[str, str, int], DefaultHistogram] = defaultdict(
            DefaultHistogram
        )
        # Calls of gRPC by name, and how they ended by name and code; streams are not among them.
        self.started: Counter[str] = Counter()
        self.handled: Counter[tuple[str, str]] = Counter()
        self.handling: defaultdict[str, DefaultHistogram] = defaultdict(DefaultHistogram)
        # Messages of streams, by the call's name.
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        # Requests that waited for a batch, at the arrival of each: by model and version.
        self.queued: defaultdict[tuple[str, str], DefaultHistogram] = defaultdict(DefaultHistogram)
        # Requests that were with their models, at the arrival of each, with itself.
        self.in_flight = DefaultHistogram()
        # Sets, because an observer may be added while calls are on their way.
        self._open: set[Call] = set()
        self._running: set[Call] = set()

    def in_progress(self) -> dict[str, int]:
        """How many requests of HTTP are now being answered, by each method that was seen."""
        found = dict.fromkeys((method for method, _, _ in self.requests), 0)
        for call in self._open:
            found[call.method] = found.get(call.method, 0) + 1
        return found

    def admit(self, call: Call) -> None:
        if call.method:
            if call.method in METHODS and call.route and call.route not in self._skipped:
                self._open.add(call)
        elif call.is_message:
            self.received[call.route] += 1
        elif not call.is_inner:
            self.started[call.route] += 1

    def decoded(self, call: Call) -> None:
        model = call.model
        if model is None:
            return
        batcher = model.batcher
        if batcher is not None and batcher.max_batch_size > 1:
            self.queued[model.name, model.version or ""].observe(batcher.queued)
        self._running.add(call)
        self.in_flight.observe(len(self._running))

    def answered(self, call: Call) -> None:
        self._end(call)

    def refused(self, call: Call, error: HeadraceError) -> None:
        self._end(call)

    def left(self, call: Call) -> None:
        self._end(call)

    def _end(self, call: Call) -> None:
        self._running.discard(call)
        if call in self._open:
            self._open.remove(call)
            # A status of HTTP is a number.
            key = call.method, call.route, int(call.status)
            self.requests[key].observe(call.seconds)
        elif call.is_message:
            self.sent[call.route] += call.messages
        elif not call.method and not call.is_inner:
            self.handled[call.route, str(call.status)] += 1
            self.handling[call.route].observe(call.seconds)
