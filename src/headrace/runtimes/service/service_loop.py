"""The event loop and the threads that the endpoints of one service run in."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from functools import partial
from typing import Any, Callable

from headrace.runners.current_call import EndpointCall
from headrace.runtimes.service import fast_loop
from headrace.runtimes.threads_on_demand import ThreadsOnDemand
from headrace.services.thread_call import call_in_thread

logger = logging.getLogger("headrace.services")

# Endpoints that are plain functions and run at once; more wait for a thread.
THREADS = 40


class ServiceLoop:
    """A loop in a thread of its own for coroutines, and a pool of threads for plain functions."""

    def __init__(self, name: str) -> None:
        self.loop = fast_loop.new()
        self._threads = ThreadsOnDemand(THREADS, f"service-{name}")
        # Applications and endpoints that ask the loop for a thread get one of these.
        self.loop.set_default_executor(
            ThreadPoolExecutor(THREADS, thread_name_prefix=f"service-{name}-loop")
        )
        self._is_closing = False
        self._thread = threading.Thread(
            target=self._run_forever, args=(name,), name=f"service-{name}", daemon=True
        )
        self._thread.start()

    def _run_forever(self, name: str) -> None:
        # Also where user code stops the loop, as a task does that raises SystemExit.
        while not self._is_closing:
            try:
                self.loop.run_forever()
                error = None
            except BaseException as exc:
                error = exc
            if not self._is_closing:
                logger.error(
                    "the event loop of service %s was stopped and goes on", name, exc_info=error
                )

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function, plain or async, as the service's requests are; waits for its result."""
        work: Future[Any]
        if inspect.iscoroutinefunction(function):
            work = asyncio.run_coroutine_threadsafe(function(*args), self.loop)
        else:
            work = self._threads.call(partial(function, *args))
        return work.result()

    @property
    def is_here(self) -> bool:
        """Whether this is the loop's thread."""
        return self._thread.ident == threading.get_ident()

    def spawn(self, call: EndpointCall, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as the work of a call. On the loop.

        It begins even if the call is cancelled before, and first makes the call the current one.
        """
        call.loop, call.thread = self.loop, self._thread.ident or 0
        task = self.loop.create_task(coroutine)
        call.stop = partial(self.loop.call_soon_threadsafe, task.cancel)

    def submit(self, function: Callable[[], None]) -> None:
        """Run a plain function, in a thread and a context of its own. It must not raise."""
        self._threads.submit(partial(Context().run, function))

    async def in_thread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Await a plain function that runs in a thread, on behalf of the current call."""
        return await call_in_thread(self._threads.submit, partial(function, *args, **kwargs))

    def close(self) -> None:
        """Stop the loop; threads that are still busy are left behind."""
        self._threads.close()
        self._is_closing = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
