"""The event loop and the threads that the endpoints of one service run in."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, Callable

from headrace.runners.current_call import CURRENT, EndpointCall

# Endpoints that are plain functions and run at once; more wait for a thread.
THREADS = 40


class ServiceLoop:
    """A loop in a thread of its own for coroutines, and a pool of threads for plain functions."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"service-{name}")
        # Applications and endpoints that ask for a thread get one of these.
        self.loop.set_default_executor(self._threads)
        self._thread = threading.Thread(
            target=self.loop.run_forever, name=f"service-{name}", daemon=True
        )
        self._thread.start()

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function, plain or async, as the service's requests are; waits for its result."""
        work: Future[Any]
        if inspect.iscoroutinefunction(function):
            work = asyncio.run_coroutine_threadsafe(function(*args), self.loop)
        else:
            work = self._threads.submit(function, *args)
        return work.result()

    def spawn(self, call: EndpointCall, coroutine: Callable[[], Any]) -> None:
        """Run a coroutine function as the work of a call. On the loop."""
        call.loop, call.thread = self.loop, self._thread.ident or 0
        context = copy_context()
        context.run(CURRENT.set, call)
        task = context.run(self.loop.create_task, coroutine())
        call.stop = partial(self.loop.call_soon_threadsafe, task.cancel)
        if call.is_cancelled:
            # Once it has begun, or it could not end the call.
            self.loop.call_soon(task.cancel)

    def submit(self, call: EndpointCall, function: Callable[[], None]) -> None:
        """Run a plain function as the work of a call, in a thread."""
        context = copy_context()
        context.run(CURRENT.set, call)
        self._threads.submit(context.run, function)

    async def in_thread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Await a plain function that runs in a thread, on behalf of the current call."""
        work = partial(copy_context().run, function, *args, **kwargs)
        return await self.loop.run_in_executor(self._threads, work)

    def close(self) -> None:
        """Stop the loop; threads that are still busy are left behind."""
        self._threads.shutdown(wait=False)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
