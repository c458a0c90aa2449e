"""The contract of every executor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol, TypeVar

from headrace.errors import (
    DeadlineExceeded,
    HeadraceError,
    LoadFailed,
    Overloaded,
    WorkerCrashed,
)
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelMetadata
from headrace.settings import ModelSettings

T = TypeVar("T")
Done = Callable[[InferenceResponse | HeadraceError], None]

# Seconds that a worker, a model or a stream may take to end when it is told to.
STOP_GRACE = 5.0
# Streams of one model that may hold a thread of one process at once, also those that nobody reads
# any more and that have not ended yet.
MOST_STREAMS = 64
# The same for requests of mounted applications, which hold no thread of the worker.
MOST_RELAYED = 1024


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
        """Why a loaded model cannot answer now, and when loading it is tried again."""

    async def infer(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> InferenceResponse:
        """Answer one batch before `deadline` (event loop time).

        Raises:
            DeadlineExceeded: the model did not answer in time and was stopped.
            WorkerCrashed: the worker died while it held this batch.
            HeadraceError: what the model or its runtime raised.
        """

    def begin(self, key: str, request: InferenceRequest, deadline: float, done: Done) -> bool:
        """Start one batch as `infer` does, if that takes no waiting; False if it does.

        `done` gets its response or its error, later and once.

        Raises:
            InvalidInput: it cannot be sent.
        """

    async def infer_alone(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> InferenceResponse:
        """Like `infer`, but where nothing else runs, so that a death is this batch's fault."""

    def stream(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> AsyncGenerator[InferenceResponse, None]:
        """The pieces of a streamed answer; closing the generator withdraws the request.

        Raises:
            Unimplemented: the model does not stream.
            Overloaded: too many streams of the model have not ended.
            DeadlineExceeded, WorkerCrashed, HeadraceError: as `infer`.
        """

    def withdraw(self, request: InferenceRequest) -> None:
        """Withdraw a batch that nobody waits for: it need not run if it has not begun."""

    async def unload(self, key: str) -> None:
        """Forget a model; its running batches must have ended."""

    async def stop(self) -> None:
        """Stop everything; no process is left."""


class Exhausted(LoadFailed):
    """A load that had all its time, or several tries: the next one may succeed, and can wait."""


class LoadOverdue(Exhausted):
    """A load that took too long. It may still be running: only the worker's end stops it."""


class WorkerLost(WorkerCrashed):
    """The worker died while it held a batch that may run again.

    `blameless` is true when it was ended because another request overran its deadline. `killed`
    is true when something outside ended it, which says little about what it was doing.
    `out_of_memory` is true when the kernel did so because memory ran out, which says more.
    """

    def __init__(
        self,
        message: str,
        blameless: bool = False,
        killed: bool = False,
        out_of_memory: bool = False,
    ) -> None:
        super().__init__(message)
        self.blameless = blameless
        self.killed = killed
        self.out_of_memory = out_of_memory


def too_many_streams(most: int = MOST_STREAMS) -> Overloaded:
    return Overloaded(f"{most} streams of this model are already open")


async def in_time(take: Callable[[], Awaitable[T]], deadline: float) -> T:
    """The next piece of a stream, from `take`.

    The deadline is checked for each piece: a consumer that takes its time between two pieces
    learns of it here, and is not cancelled in the middle of something else.

    Raises:
        DeadlineExceeded: it did not come by `deadline`.
    """
    if asyncio.get_running_loop().time() < deadline:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                return await take()
    raise DeadlineExceeded("the stream's time ran out before its end")
