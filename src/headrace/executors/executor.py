"""The contract of every executor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol, TypeVar

from headrace.errors import DeadlineExceeded, LoadFailed, WorkerCrashed
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelMetadata
from headrace.settings import ModelSettings

T = TypeVar("T")


class Executor(Protocol):
    """Loads models under a key and answers their requests, one batch per call."""

    async def load(self, key: str, settings: ModelSettings) -> ModelMetadata:
        """Load a model on its instances.

        Raises:
            LoadFailed: with the reason; nothing of the model is left behind.
        """

    def slots(self, key: str) -> int:
        """How many batches of this model may run at once."""

    def is_up(self, key: str) -> bool:
        """Whether a loaded model could answer now, without waiting for a restart."""

    def trouble(self, key: str) -> str:
        """Why a loaded model cannot answer now, and when that is tried to be changed."""

    async def infer(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> InferenceResponse:
        """Answer one batch before `deadline` (event loop time).

        Raises:
            DeadlineExceeded: the model did not answer in time and was stopped.
            WorkerCrashed: the worker died while it held this batch.
            HeadraceError: what the model or its runtime raised.
        """

    async def infer_alone(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> InferenceResponse:
        """Answer one batch where nothing else runs, so that a death is its doing; as `infer`."""

    def stream(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> AsyncGenerator[InferenceResponse, None]:
        """The pieces of a streamed answer; closing the generator withdraws the request.

        Raises:
            Unimplemented: the model does not stream.
            DeadlineExceeded, WorkerCrashed, HeadraceError: as `infer`.
        """

    def withdraw(self, request: InferenceRequest) -> None:
        """Nobody waits for this batch any more: it need not run if it has not begun."""

    async def unload(self, key: str) -> None:
        """Forget a model; running batches have ended before."""

    async def stop(self) -> None:
        """Stop everything; no process is left."""


class LoadOverdue(LoadFailed):
    """A load that took too long. It may still go on, for nothing stops it but the worker's end."""


class WorkerLost(WorkerCrashed):
    """The worker died while it held a batch that may run again.

    `blameless` is true when another request's overrun deadline was the reason. `killed` is true
    when a signal ended it that its own code does not cause, such as the kernel's SIGKILL where
    memory is short.
    """

    def __init__(self, message: str, blameless: bool = False, killed: bool = False) -> None:
        super().__init__(message)
        self.blameless = blameless
        self.killed = killed


async def in_time(take: Callable[[], Awaitable[T]], deadline: float) -> T:
    """The next piece of a stream, as `take` brings it.

    Each is waited for by itself: who takes time between two finds the deadline passed here, and
    is not cancelled in the middle of something else.

    Raises:
        DeadlineExceeded: it did not come by `deadline`.
    """
    if asyncio.get_running_loop().time() < deadline:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                return await take()
    raise DeadlineExceeded("the stream's time ran out before its end")
