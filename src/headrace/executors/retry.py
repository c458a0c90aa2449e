"""When something that failed is tried again: at once, then after growing pauses."""

from __future__ import annotations

import asyncio
import math
import random

from headrace.executors.executor import WorkerLost

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0


def pause_after(failures: int, first: float) -> float:
    """Seconds to wait after `failures` failures in a row, at least 1; `first` after one.

    Each pause is up to twice the one before, and shortened at random by up to half, so that
    loads that failed at the same moment are not tried again at the same moment.
    """
    # A large power does not fit in a float.
    return min(LONGEST_PAUSE, first * 2.0 ** min(failures - 1, 32)) * random.uniform(0.5, 1.0)


class Retry:
    """A load that failed, why, and when it is tried again. Times are event loop times.

    `ended_worker` is true when its worker ended during the load, and `killed` when the model's
    code is not the likely cause of that. `exhausted` is true when the load had all its time.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.began = asyncio.get_running_loop().time()
        self.due = self.began
        self.reason = ""
        self.ended_worker = self.killed = self.exhausted = False

    def failed(
        self, reason: str, cause: BaseException | None = None, exhausted: bool = False
    ) -> None:
        """Count a failure; after the first, the load is tried again at once if it was short."""
        self.failures += 1
        self.exhausted = exhausted
        self.reason = reason
        self.ended_worker = isinstance(cause, WorkerLost)
        self.killed = isinstance(cause, WorkerLost) and cause.killed
        repeated = self.failures - (not exhausted)
        pause = pause_after(repeated, FIRST_PAUSE) if repeated else 0.0
        self.due = asyncio.get_running_loop().time() + pause

    @property
    def pause(self) -> float:
        """Seconds until the next try."""
        return max(0.0, self.due - asyncio.get_running_loop().time())

    def __str__(self) -> str:
        seconds = math.ceil(self.pause)
        return f"{self.reason}; " + (f"next try in {seconds} s" if seconds else "trying again")
