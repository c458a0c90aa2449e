"""Requests that wait or run, and the groups in which they wait."""

from __future__ import annotations

import asyncio
from collections import deque

from headrace.observability.timing import Timing
from headrace.protocol.messages import InferenceRequest, InferenceResponse


class Entry:
    """A request that waits or runs, and the future its caller awaits."""

    __slots__ = ("arrived", "deadline", "deaths", "future", "request", "rows", "size", "timing")

    def __init__(
        self,
        request: InferenceRequest,
        rows: int,
        size: int,
        arrived: float,
        deadline: float,
        future: asyncio.Future[InferenceResponse],
    ) -> None:
        self.request = request
        self.rows = rows
        self.size = size
        self.arrived = arrived
        self.deadline = deadline
        self.future = future
        self.deaths = 0
        # Filled in if the caller asked for it.
        self.timing: Timing | None = None


class Group(deque[Entry]):
    """Requests that may share a batch, the oldest first, and how many rows they have together."""

    rows = 0
