"""Runs models in threads of this process, for debugging and embedding."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from headrace.errors import DeadlineExceeded
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelMetadata
from headrace.settings import ModelSettings
from headrace.worker import measured
from headrace.worker.host import ModelHost


class InlineExecutor:
    """One thread per model. A model that hangs keeps its thread: there is nothing to kill."""

    def __init__(self, load_timeout: float) -> None:
        self._load_timeout = load_timeout
        self._host = ModelHost()
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._asked: asyncio.Task[list[Any]] | None = None

    async def start(self) -> None:
        """Nothing to start."""

    async def load(self, key: str, settings: ModelSettings) -> ModelMetadata:
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"model-{settings.name}")
        loading = asyncio.get_running_loop().run_in_executor(thread, self._host.load, key, settings)
        try:
            metadata = await asyncio.wait_for(loading, self._load_timeout)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        self._threads[key] = thread
        return metadata

    async def measured(self, timeout: float) -> list[list[Any]]:
        """What user code measures in this process, when models run in it at all."""
        if not self._threads:
            return []
        if self._asked is None:
            self._asked = asyncio.create_task(asyncio.to_thread(measured.families))
        await asyncio.wait([self._asked], timeout=timeout)
        if not self._asked.done():
            return []
        asked, self._asked = self._asked, None
        return [asked.result()]

    def slots(self, key: str) -> int:
        return 1

    def is_up(self, key: str) -> bool:
        return key in self._threads

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
        pieces = self._host.stream(key, request)
        while (piece := await loop.run_in_executor(None, next, pieces, None)) is not None:
            if loop.time() > deadline:
                raise DeadlineExceeded("the stream's time ran out before its end")
            yield piece

    def withdraw(self, request: InferenceRequest) -> None:
        """A batch that was handed over here has begun."""

    async def unload(self, key: str) -> None:
        thread = self._threads.pop(key, None)
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._host.unload, key)
            thread.shutdown(wait=False)

    async def stop(self) -> None:
        for key in list(self._threads):
            await self.unload(key)
