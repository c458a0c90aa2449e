"""A thread that runs jobs inside the server and does not keep the process from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class DaemonThread(threading.Thread):
    """Runs jobs one after the other, in a thread that ends with the process at the latest.

    Python waits at its exit for the threads of a `ThreadPoolExecutor`, even for one that hangs.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self.start()

    def submit(self, job: Callable[..., T], *arguments: Any) -> Future[T]:
        """Run a job after those submitted before it."""
        future: Future[T] = Future()
        self._jobs.put((future, partial(job, *arguments)))
        return future

    def end(self) -> None:
        """End the thread once the jobs submitted so far are done."""
        self._jobs.put(None)

    def run(self) -> None:
        """Run what is submitted; for `start` alone to call."""
        while (entry := self._jobs.get()) is not None:
            future, job = entry
            if future.set_running_or_notify_cancel():
                try:
                    result = job()
                except BaseException as exc:
                    future.set_exception(exc)
                else:
                    future.set_result(result)
                    del result
            # A thread that waits must not keep the last request and its answer in memory.
            del entry, future, job
