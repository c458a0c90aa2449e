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
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self.start()

    def submit(self, job: Callable[..., T], *arguments: Any) -> Future[T]:
        """Run a job after those submitted before it."""
        future: Future[T] = Future()
        self.begin(partial(_settle, future, job, arguments))
        return future

    def begin(self, job: Callable[[], None]) -> None:
        """Run a job, which raises nothing, after those submitted before it."""
        self._jobs.put(job)

    def end(self) -> None:
        """End the thread once the jobs submitted so far are done."""
        self._jobs.put(None)

    def run(self) -> None:
        """Run what is submitted; for `start` alone to call."""
        while (job := self._jobs.get()) is not None:
            job()
            # A thread that waits must not keep the last request and its answer in memory.
            del job


def _settle(future: Future[T], job: Callable[..., T], arguments: tuple[Any, ...]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            result = job(*arguments)
        except BaseException as exc:
            future.set_exception(exc)
        else:
            future.set_result(result)
    # The traceback of an error holds it otherwise, and with it the error itself.
    del future
