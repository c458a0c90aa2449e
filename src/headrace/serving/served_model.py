"""One version of one model as the server holds it: its state, its batcher, its counters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from time import monotonic, perf_counter

from headrace.batching.batcher import Batcher
from headrace.errors import HeadraceError, ModelNotReady, ModelUnavailable, Unimplemented
from headrace.executors.retry import Retry
from headrace.observability.counters import ModelMetrics
from headrace.observability.timing import Timing
from headrace.protocol.cloud_events import CloudEvents
from headrace.protocol.messages import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
)
from headrace.protocol.mlflow.signature import SCORING, Signature
from headrace.serving.passed_over import PassedOver
from headrace.settings import ModelSettings

Streamer = Callable[[InferenceRequest, float], AsyncGenerator[InferenceResponse, None]]


class State(StrEnum):
    """The states of the protocol's repository extension; see `NEXT_STATES` for their order."""

    LOADING = "LOADING"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"
    UNLOADING = "UNLOADING"


NEXT_STATES = {
    State.LOADING: {State.READY, State.UNAVAILABLE},
    State.READY: {State.UNLOADING},
    State.UNLOADING: {State.UNAVAILABLE},
    State.UNAVAILABLE: {State.LOADING},
}


@dataclass(eq=False)
class ServedModel:
    """A model under its name and version. `key` is unique per load, so generations never mix.

    `wanted` is false for a model that need not answer: readiness does not wait for it.
    `alone` keeps it apart from others, because it ended a worker while loading or took too long.
    `scoring_signature` is the one for `/invocations`, which may be more tolerant.
    `cloud_events` makes the headers that callers of MLServer expect, if they do.
    `successor` is the load that replaced this one. `retry` says when a failed load is tried
    again. `origin` says what a followed model is: the `uri` of its version, and the `source` and
    the `digest` of its files. `why_code` says why it may run code that came with it, where that
    was asked.
    """

    settings: ModelSettings
    key: str
    state: State = State.LOADING
    reason: str = ""
    model_metadata: ModelMetadata = field(default_factory=ModelMetadata)
    signature: Signature | None = None
    scoring_signature: Signature | None = None
    batcher: Batcher | None = None
    cloud_events: CloudEvents | None = None
    infer_timeout: float = 60.0
    wanted: bool = True
    successor: ServedModel | None = None
    retry: Retry | None = None
    alone: bool = False
    origin: dict[str, str] = field(default_factory=dict)
    why_code: str = ""
    streamer: Streamer | None = None
    streams: int = 0
    _streams_ended: asyncio.Event | None = None

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def version(self) -> str | None:
        return self.settings.version

    @cached_property
    def metrics(self) -> ModelMetrics:
        return ModelMetrics()

    @cached_property
    def _passed_over(self) -> PassedOver:
        return PassedOver(self.name, self.metrics)

    def pass_over(self, kind: str, words: Sequence[str]) -> None:
        """Count words that a request holds and the model does not know, and log each once."""
        self._passed_over.add(kind, words, self.signature)

    def become(self, state: State, reason: str = "") -> None:
        """Change state as `NEXT_STATES` allows; anything else is a bug."""
        assert state in NEXT_STATES[self.state], f"{self.state} -> {state} is a bug"
        self.state, self.reason = state, reason

    @property
    def is_ready(self) -> bool:
        """Whether it is loaded; its worker may be restarting."""
        return self.state is State.READY

    @property
    def current(self) -> ServedModel:
        """The one that answers for it: itself, unless another one has replaced it."""
        model = self
        while model.state is not State.READY and model.successor is not None:
            model = model.successor
        return model

    @property
    def has_loaded(self) -> bool:
        """Whether its metadata is known."""
        return self.batcher is not None

    def submit(
        self, request: InferenceRequest, timeout: float | None, timing: Timing | None = None
    ) -> asyncio.Future[InferenceResponse]:
        """Check a request against the signature and queue it; `timing` is filled in. Hot.

        Raises:
            ModelNotReady: the model is loading, or is to be loaded again.
            ModelUnavailable: it has failed for good, or is unloaded.
            InvalidInput: the request does not fit the signature; the message names the column.
        """
        batcher = self.batcher
        if batcher is None or self.state is not State.READY:
            if self.successor is not None:
                # A caller who found this model before it was replaced never notices.
                return self.successor.submit(request, timeout, timing)
            raise self.not_ready()
        limit, received = self._limit(request, timeout), request.received
        if self.signature is not None and request.content_type != SCORING:
            request = self.signature.conform_joined(request)
        if self.model_metadata.is_service:
            # For the calls that it makes to other models; the clock is that of every process.
            if request.context is None:
                request.context = {}
            request.context["deadline"] = monotonic() + limit
        return batcher.submit(request, batcher.now() + limit, timing, received)

    async def stream(
        self, request: InferenceRequest, timeout: float | None
    ) -> AsyncGenerator[InferenceResponse, None]:
        """The pieces of a streamed answer; closing the generator withdraws the request.

        Raises:
            Overloaded: too many streams of this model have not ended, or their requests and those
                that wait have too many bytes.
            ModelNotReady, InvalidInput: as `submit`.
            Unimplemented: the model does not stream.
        """
        streamer, batcher = self.streamer, self.batcher
        if streamer is None or batcher is None or self.state is not State.READY:
            if self.successor is None:
                raise self.not_ready()
            async with aclosing(self.successor.stream(request, timeout)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        if not self.model_metadata.streams:
            raise Unimplemented(f"model '{self.name}' does not stream answers")
        limit, received = self._limit(request, timeout), request.received
        if self.signature is not None and request.content_type != SCORING:
            request = self.signature.conform(request)
        deadline = batcher.now() + limit
        size = batcher.hold(request, received)
        self.streams += 1
        began = perf_counter()
        try:
            async with aclosing(streamer(request, deadline)) as pieces:
                async for piece in pieces:
                    yield piece
            self.metrics.batching.streamed(began, perf_counter())
        finally:
            self.streams -= 1
            batcher.let_go(size)
            if not self.streams and self._streams_ended is not None:
                self._streams_ended.set()

    async def drain(self) -> None:
        """Wait until no request waits or runs; none may be added in the meantime."""
        if self.batcher is not None:
            await self.batcher.drain()
        if self.streams:
            self._streams_ended = asyncio.Event()
            await self._streams_ended.wait()

    def abandon(self, error: HeadraceError) -> None:
        """Fail every request that waits or runs; streams continue."""
        if self.batcher is not None:
            self.batcher.abandon(error)

    def why_not_ready(self) -> str:
        """Why the model cannot answer, and when its load is tried again."""
        if self.state is State.UNAVAILABLE and self.retry is not None:
            return str(self.retry)
        return self.reason or str(self.state)

    @property
    def may_recover(self) -> bool:
        """Whether it may answer later without anybody doing something about it."""
        return self.state in (State.LOADING, State.READY) or self.retry is not None

    def not_ready(self, reason: str = "") -> ModelNotReady:
        """The error for a request that it cannot answer now, or for good."""
        kind = ModelNotReady if self.may_recover else ModelUnavailable
        return kind(f"model '{self.name}' is not ready: {reason or self.reason or self.state}")

    def _limit(self, request: InferenceRequest, timeout: float | None) -> float:
        """Seconds that a request may take: the least of what its caller and the server allow."""
        limit = self.infer_timeout if timeout is None else min(timeout, self.infer_timeout)
        return limit if request.timeout is None else min(request.timeout, limit)
