"""Threads for plain functions, started as they are needed."""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, Callable

logger = logging.getLogger("headrace.services")


class ThreadsOnDemand:
    """Runs functions in at most `most` threads, which are started as they are needed.

    A `ThreadPoolExecutor` does too, with a future and several locks for each function. Threads
    that give way to one another at each of them take longer than the functions.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._work: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        # An element for each thread that waits for work. Adding and taking one is atomic.
        self._idle: deque[None] = deque()
        self._lock = threading.Lock()
        self._started = 0

    def submit(self, function: Callable[[], Any]) -> None:
        """Run a function in a thread, at once or when one is free. It must not raise."""
        self._work.put(function)
        try:
            self._idle.pop()
        except IndexError:
            with self._lock:
                if self._started >= self._most:
                    return
                self._started += 1
                name = f"{self._name}_{self._started}"
            threading.Thread(target=self._run, name=name, daemon=True).start()

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """As `submit`, for a function whose result is wanted, or what it raises."""
        future: Future[Any] = Future()
        self.submit(partial(_fulfil, future, function))
        return future

    def close(self) -> None:
        """End the threads that are idle now, and each other one after its function."""
        for _ in range(self._started):
            self._work.put(None)

    def _run(self) -> None:
        while (function := self._work.get()) is not None:
            try:
                function()
            except BaseException:
                logger.exception("a thread of the pool failed; this is a bug")
            # Or it would be kept until the next one comes.
            del function
            self._idle.append(None)


def _fulfil(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as exc:
        future.set_exception(exc)
