"""Runs models in threads of this process, for debugging and embedding."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from headrace.errors import DeadlineExceeded, HeadraceError, ModelNotReady, ShuttingDown
from headrace.executors.daemon_thread import DaemonThread
from headrace.executors.executor import (
    MOST_STREAMS,
    STOP_GRACE,
    Done,
    LoadOverdue,
    in_time,
    too_many_streams,
)
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelMetadata
from headrace.runtimes import import_lock
from headrace.settings import ModelSettings
from headrace.worker import measured
from headrace.worker.host import ModelHost

logger = logging.getLogger("headrace.executors")

# How long models that hang may hold up the server's shutdown, in seconds.
LAST_UNLOADS = 3.0


class InlineExecutor:
    """One thread per model. A model that hangs keeps its thread: there is nothing to kill."""

    def __init__(self, load_timeout: float) -> None:
        self._load_timeout = load_timeout
        self._host = ModelHost()
        self._threads: dict[str, DaemonThread] = {}
        # By model, also those that nobody reads any more: a thread cannot be ended from outside.
        self._streams: dict[str, list[DaemonThread]] = {}
        # By model name: done once the thread of an abandoned load is free.
        self._loading: dict[str, Future[None]] = {}
        self._asked: asyncio.Future[list[Any]] | None = None
        # Done when open streams are to end; made with the first stream.
        self._stopping: asyncio.Future[None] | None = None

    async def load(self, key: str, settings: ModelSettings) -> ModelMetadata:
        import_lock.install()
        if (last := self._loading.get(settings.name)) is not None and not last.done():
            raise LoadOverdue(f"the last attempt to load model '{settings.name}' is still running")
        thread = DaemonThread(f"model-{settings.name}")
        loading = asyncio.wrap_future(thread.submit(self._host.load, key, settings))
        try:
            metadata = await asyncio.wait_for(loading, self._load_timeout)
        except BaseException as exc:
            if isinstance(exc, (TimeoutError, asyncio.CancelledError)):
                # The load continues; this job, queued behind it, shows when it has ended.
                self._loading[settings.name] = thread.submit(lambda: None)
            # Nothing is left of a load that succeeds after all.
            thread.submit(self._host.unload, key)
            thread.end()
            if isinstance(exc, TimeoutError):
                raise LoadOverdue(
                    f"model '{settings.name}' did not load within {self._load_timeout:g} s "
                    "(--load-timeout)"
                ) from None
            raise
        self._threads[key] = thread
        return metadata

    async def measured(self, timeout: float) -> list[list[Any]]:
        """The metrics of user code in this process, if any models run in it."""
        if not self._threads:
            return []
        if self._asked is None:
            # Collecting runs user code, which may hang.
            thread = DaemonThread("metrics")
            self._asked = asyncio.wrap_future(thread.submit(measured.families))
            thread.end()
        # Several scrapes may wait for the same answer.
        asked = self._asked
        await asyncio.wait([asked], timeout=timeout)
        if not asked.done():
            return []
        if self._asked is asked:
            self._asked = None
        return [asked.result()]

    def slots(self, key: str) -> int:
        return 1

    def is_up(self, key: str) -> bool:
        return key in self._threads

    def trouble(self, key: str) -> str:
        return "it is not loaded"

    async def infer(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> InferenceResponse:
        loop = asyncio.get_running_loop()
        thread = self._threads.get(key)
        if thread is None:
            raise ModelNotReady("the model is not loaded")
        running = asyncio.wrap_future(thread.submit(self._host.infer, key, request))
        try:
            return await asyncio.wait_for(running, max(0.0, deadline - loop.time()))
        except TimeoutError:
            raise _late() from None

    def begin(self, key: str, request: InferenceRequest, deadline: float, done: Done) -> bool:
        thread = self._threads.get(key)
        if thread is None:
            return False
        begun = _Begun(asyncio.get_running_loop(), deadline, done)
        thread.begin(partial(begun.run, self._host, key, request))
        return True

    async def infer_alone(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> InferenceResponse:
        return await self.infer(key, request, deadline)

    async def stream(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> AsyncGenerator[InferenceResponse, None]:
        loop = asyncio.get_running_loop()
        running = [thread for thread in self._streams.get(key, ()) if thread.is_alive()]
        if len(running) >= MOST_STREAMS:
            raise too_many_streams()
        stopping = self._stopping = self._stopping or loop.create_future()
        thread = DaemonThread("stream")
        self._streams[key] = [*running, thread]
        pieces = self._host.stream(key, request)

        async def take() -> InferenceResponse | None:
            piece: asyncio.Future[InferenceResponse | None]
            piece = asyncio.wrap_future(thread.submit(next, pieces, None))
            piece.add_done_callback(_retrieve)
            await asyncio.wait([piece, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not piece.done():
                raise ShuttingDown("the server is stopping")
            return piece.result()

        try:
            while (piece := await in_time(take, deadline)) is not None:
                yield piece
        finally:
            # After the current piece, and in the thread where a model may have its own loop.
            thread.submit(pieces.close)
            thread.end()

    def withdraw(self, request: InferenceRequest) -> None:
        """Do nothing: every batch passed to this executor has begun."""

    async def unload(self, key: str) -> None:
        """Forget a model; one that hangs is left behind, along with its thread."""
        self._streams.pop(key, None)
        thread = self._threads.pop(key, None)
        if thread is None:
            return
        # Not cancelled when the time is up: the model is freed if it ends after all.
        unloading = asyncio.wrap_future(thread.submit(self._host.unload, key))
        unloading.add_done_callback(_retrieve)
        thread.end()
        await asyncio.wait([unloading], timeout=STOP_GRACE)
        if not unloading.done():
            logger.warning(
                "unloading %s takes more than %g s; its thread is left behind", key, STOP_GRACE
            )
        elif (error := unloading.exception()) is not None:
            logger.warning("unloading %s failed: %s", key, error)

    async def stop(self) -> None:
        """Unload every model; one that hangs is left behind, along with its thread."""
        if self._stopping is not None and not self._stopping.done():
            self._stopping.set_result(None)
        unloads = [asyncio.create_task(self.unload(key)) for key in list(self._threads)]
        if unloads:
            _, stuck = await asyncio.wait(unloads, timeout=LAST_UNLOADS)
            for unload in stuck:
                unload.cancel()


class _Begun:
    """A batch whose outcome a callback gets, from its thread or because its time is up."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deadline: float, done: Done) -> None:
        self._loop = loop
        self._done: Done | None = done
        self._expiry = loop.call_at(deadline, self._settle, _late())

    def run(self, host: ModelHost, key: str, request: InferenceRequest) -> None:
        """Answer it, unless its time was up before; in the thread of its model."""
        if self._done is None:
            return
        # Nobody waits for it any more if the loop is closed.
        with suppress(RuntimeError):
            # No variable: the traceback of an error would hold it, and with it the error itself.
            self._loop.call_soon_threadsafe(self._settle, _outcome(host, key, request))

    def _settle(self, outcome: InferenceResponse | HeadraceError) -> None:
        # Forgotten: it has the requests, and the traceback of an error has this.
        done, self._done = self._done, None
        if done is not None:
            self._expiry.cancel()
            done(outcome)


def _outcome(
    host: ModelHost, key: str, request: InferenceRequest
) -> InferenceResponse | HeadraceError:
    try:
        return host.infer(key, request)
    except HeadraceError as error:
        return error
    except BaseException as error:
        logger.error("a batch failed", exc_info=error)
        return HeadraceError("the server failed; its log has the details")


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the request's time ran out before the model answered")


def _retrieve(done: asyncio.Future[Any]) -> None:
    """Keep asyncio from reporting an error that nobody waits for any more."""
    if not done.cancelled():
        done.exception()
