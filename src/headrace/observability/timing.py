"""Where the time of one request went. Durations are seconds."""

from __future__ import annotations

from time import perf_counter


class Timing:
    """Filled in by the batcher: rows of the request and its batch; how long it waited and ran.

    What has not happened is None, as for a request that expired in the queue.
    """

    __slots__ = ("batch", "computed", "created", "queued", "rows")

    def __init__(self) -> None:
        self.created = perf_counter()
        self.rows: int | None = None
        self.batch: int | None = None
        self.queued: float | None = None
        self.computed: float | None = None
