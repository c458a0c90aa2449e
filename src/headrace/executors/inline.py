"""Runs models in threads of this process, for debugging and embedding."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from headrace.errors import DeadlineExceeded, HeadraceError
from headrace.executors.executor import LoadOverdue, in_time
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
        self._threads: dict[str, ThreadPoolExecutor] = {}
        # By model name: done once the thread of an abandoned load is free.
        self._loading: dict[str, Future[None]] = {}
        self._asked: asyncio.Task[list[Any]] | None = None

    async def load(self, key: str, settings: ModelSettings) -> ModelMetadata:
        import_lock.install()
        if (last := self._loading.get(settings.name)) is not None and not last.done():
            raise LoadOverdue(f"the last attempt to load model '{settings.name}' is still running")
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"model-{settings.name}")
        loading = asyncio.get_running_loop().run_in_executor(thread, self._host.load, key, settings)
        try:
            metadata = await asyncio.wait_for(loading, self._load_timeout)
        except BaseException as exc:
            if isinstance(exc, (TimeoutError, asyncio.CancelledError)):
                # The load continues; this job, queued behind it, shows when it has ended.
                self._loading[settings.name] = thread.submit(lambda: None)
            # Nothing is left of a load that succeeds after all.
            thread.submit(self._host.unload, key)
            thread.shutdown(wait=False)
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
            self._asked = asyncio.create_task(asyncio.to_thread(measured.families))
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
        running = loop.run_in_executor(self._threads[key], self._host.infer, key, request)
        try:
            return await asyncio.wait_for(running, max(0.0, deadline - loop.time()))
        except TimeoutError:
            raise DeadlineExceeded("the request's time ran out before the model answered") from None

    async def infer_alone(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> InferenceResponse:
        return await self.infer(key, request, deadline)

    async def stream(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> AsyncGenerator[InferenceResponse, None]:
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="stream")
        pieces = self._host.stream(key, request)
        take = partial(loop.run_in_executor, thread, next, pieces, None)
        try:
            while (piece := await in_time(take, deadline)) is not None:
                yield piece
        finally:
            # After the current piece, and in the thread where a model may have its own loop.
            thread.submit(pieces.close)
            thread.shutdown(wait=False)

    def withdraw(self, request: InferenceRequest) -> None:
        """Do nothing: every batch passed to this executor has begun."""

    async def unload(self, key: str) -> None:
        thread = self._threads.pop(key, None)
        if thread is not None:
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(thread, self._host.unload, key)
            except HeadraceError as exc:
                logger.warning("unloading %s failed: %s", key, exc)
            thread.shutdown(wait=False)

    async def stop(self) -> None:
        """Unload every model; one that hangs is left behind, along with its thread."""
        unloads = [asyncio.create_task(self.unload(key)) for key in list(self._threads)]
        if unloads:
            _, stuck = await asyncio.wait(unloads, timeout=LAST_UNLOADS)
            for unload in stuck:
                unload.cancel()
