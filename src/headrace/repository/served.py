"""One version of one model as the server holds it: its state, its batcher, its counters."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from headrace.batching.batcher import Batcher
from headrace.errors import ModelNotReady
from headrace.observability.metrics import ModelMetrics
from headrace.protocol.messages import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
)
from headrace.protocol.signature import SCORING, Signature
from headrace.settings import ModelSettings


class State(StrEnum):
    """The states of the protocol's repository extension, and which may follow which."""

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
    """A model under its name and version. `key` is unique per load, so generations never mix."""

    settings: ModelSettings
    key: str
    state: State = State.LOADING
    reason: str = ""
    model_metadata: ModelMetadata = field(default_factory=ModelMetadata)
    signature: Signature | None = None
    batcher: Batcher | None = None
    infer_timeout: float = 60.0

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def version(self) -> str | None:
        return self.settings.version

    @cached_property
    def metrics(self) -> ModelMetrics:
        return ModelMetrics()

    def become(self, state: State, reason: str = "") -> None:
        """Change state along the table; anything else is a bug."""
        assert state in NEXT_STATES[self.state], f"{self.state} -> {state} is a bug"
        self.state, self.reason = state, reason

    def submit(
        self, request: InferenceRequest, timeout: float | None
    ) -> asyncio.Future[InferenceResponse]:
        """Check a request against the signature and queue it. Hot.

        Raises:
            ModelNotReady: the model is loading, failed or unloaded.
            InvalidInput: the request does not fit the signature; the message names the column.
        """
        batcher = self.batcher
        if batcher is None or self.state is not State.READY:
            raise ModelNotReady(f"model '{self.name}' is not ready: {self.reason or self.state}")
        if self.signature is not None and request.content_type != SCORING:
            request = self.signature.conform(request)
        limit = self.infer_timeout if timeout is None else min(timeout, self.infer_timeout)
        return batcher.submit(request, asyncio.get_running_loop().time() + limit)
