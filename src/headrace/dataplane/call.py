"""One request on its way to a model and back, the same for every transport. Hot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from time import perf_counter
from typing import Any

from headrace.dataplane.caller import Caller, RequestIds
from headrace.dataplane.observers.observer import Observer, Observers
from headrace.errors import HeadraceError
from headrace.observability.timing import Timing
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.serving.served_model import ServedModel

logger = logging.getLogger("headrace.dataplane")


class Call:
    """What is known of one request so far; observers read it.

    `received` and `sent` are bytes of the bodies, `status` is that of the answer in its transport's
    terms.
    `timing` is filled in where an observer wants to know.
    """

    __slots__ = (
        "caller",
        "ended",
        "model",
        "received",
        "sent",
        "started",
        "status",
        "timing",
    )

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.started = perf_counter()
        self.model: ServedModel | None = None
        self.timing: Timing | None = None
        self.status: int | str = 0
        self.received = self.sent = 0
        self.ended = False

    @property
    def seconds(self) -> float:
        """Seconds since the request arrived."""
        return perf_counter() - self.started


class Calls:
    """Begins calls, and lets the observers know how each of them ends.

    A transport begins a call, has it admitted, finds its model, decodes the request, and then
    `submit`s or `stream`s it. In the end it calls exactly one of `answered`, `refused` and `left`.
    """

    def __init__(self, observers: tuple[Observer, ...] = ()) -> None:
        self._observers = Observers(observers)
        self._ids = RequestIds()

    def begin(
        self, protocol: str, route: str, given_id: str | None, peer: Any, headers: Mapping[Any, Any]
    ) -> Call:
        """A call that has just come in. `given_id` is the request id that its caller chose. Hot."""
        return Call(Caller(protocol, route, self._ids.of(given_id), peer, headers))

    def admit(self, call: Call) -> None:
        """Let observers look at a call before its body is.

        Raises:
            HeadraceError: one of them refuses it.
        """
        for admit in self._observers.admit:
            admit(call)

    def submit(
        self, call: Call, model: ServedModel, request: InferenceRequest, timeout: float | None
    ) -> asyncio.Future[InferenceResponse]:
        """Queue the request; cancel the future to withdraw it. Hot.

        Raises:
            ModelNotReady, InvalidInput, Overloaded: see `ServedModel.submit`.
        """
        self._decoded(call, model)
        return model.submit(request, timeout, call.timing)

    async def stream(
        self, call: Call, model: ServedModel, request: InferenceRequest, timeout: float | None
    ) -> AsyncGenerator[InferenceResponse, None]:
        """The pieces of a streamed answer; closing the generator withdraws the request.

        Raises:
            HeadraceError: see `ServedModel.stream`; also in the middle, when the model fails.
        """
        self._decoded(call, model)
        async with aclosing(model.stream(request, timeout)) as pieces:
            async for piece in pieces:
                yield piece

    def _decoded(self, call: Call, model: ServedModel) -> None:
        call.model = model
        for decoded in self._observers.decoded:
            decoded(call)

    def answered(self, call: Call, status: int | str, sent: int) -> None:
        """The answer is about to be sent, whole or to its end. Hot."""
        call.status, call.sent = status, sent
        self._end(self._observers.answered, call)

    def refused(self, call: Call, error: HeadraceError, status: int | str, sent: int) -> None:
        """The caller is told an error, in place of an answer or in the middle of one."""
        call.status, call.sent = status, sent
        self._end(self._observers.refused, call, error)

    def left(self, call: Call, status: int | str) -> None:
        """The caller has gone before its answer, which is no failure."""
        call.status = status
        self._end(self._observers.left, call)

    def _end(self, hooks: tuple[Callable[..., None], ...], call: Call, *more: Any) -> None:
        """A call ends once, and no observer stands in the way of the next one, or of the answer."""
        if call.ended:
            return
        call.ended = True
        for hook in hooks:
            try:
                hook(call, *more)
            except Exception:
                logger.exception("an observer failed; this is a bug")


def as_error(exc: BaseException, request_id: str) -> HeadraceError:
    """The error to answer with; any other exception is a bug, and is logged."""
    if isinstance(exc, HeadraceError):
        return exc
    extra: dict[str, Any] = {"request_id": request_id}
    logger.error("a request failed; this is a bug", exc_info=exc, extra=extra)
    return HeadraceError("the server failed on this request; its log has the details")
