"""Counts HTTP requests by route and status, as MLServer does; see `admin/rest_metrics.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.dataplane.observers.observer import Observer
from headrace.observability.counters import Histogram

if TYPE_CHECKING:
    from headrace.dataplane.call import Call
    from headrace.errors import HeadraceError


class RestCounters(Observer):
    """Durations by protocol, route and status, of the requests that a protocol's route answers.

    Routes are templates and statuses are ours, so callers cannot add series at will. Pages,
    health checks, and calls over gRPC and of runners are not counted.
    """

    def __init__(self) -> None:
        self.durations: dict[tuple[str, int], Histogram] = {}

    def answered(self, call: Call) -> None:
        self._count(call)

    def refused(self, call: Call, error: HeadraceError) -> None:
        self._count(call)

    def left(self, call: Call) -> None:
        self._count(call)

    def _count(self, call: Call) -> None:
        status = call.status
        # gRPC's statuses are names, a runner's call is part of another, and pages are the admin's.
        if (
            not isinstance(status, int)
            or call.is_inner
            or call.protocol == "admin"
            or not call.route
        ):
            return
        key = (call.route, status)
        found = self.durations.get(key)
        if found is None:
            found = self.durations[key] = Histogram()
        found.observe(call.seconds)
