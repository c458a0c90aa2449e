"""Where the time of one request went. Durations are seconds."""

from __future__ import annotations

from time import perf_counter


class Timing:
    """Filled in by the batcher: rows of the request and its batch; how long it waited and ran."""

    __slots__ = ("batch", "computed", "created", "queued", "rows")

    def __init__(self) -> None:
        self.created = perf_counter()
        self.rows = 0
        self.batch = 0
        self.queued = 0.0
        self.computed = 0.0
