"""One request on its way to a model and back, the same for every transport. Hot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from time import perf_counter
from types import MappingProxyType
from typing import Any

from headrace.access.needs import Needs
from headrace.dataplane.caller import RequestIds
from headrace.dataplane.observers.observer import Observer, Observers
from headrace.errors import HeadraceError, Overloaded
from headrace.observability.timing import Timing
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.rollouts.traffic import Traffic
from headrace.serving.served_model import ServedModel

logger = logging.getLogger("headrace.dataplane")

# The protocol of the routes that are about the server and its models, such as those that load them.
ADMIN = "admin"
# That of the routes which models and services declare.
OWN_ROUTE = "model_route"
NO_HEADERS: Mapping[Any, Any] = MappingProxyType({})


class Call:
    """One request from one caller, as far as it has come; observers read it.

    `protocol` and `route` are what was requested, `request_id` is in the log and in the answer,
    `peer` is the caller's address as the transport knows it, and `headers` are HTTP's, or gRPC's
    metadata. `received` and `sent` are the bytes of the bodies. `status` is that of the answer in
    the transport's terms. An observer that wants to know where the time went sets `timing` for
    the batcher to fill in. `method` is that of HTTP, and empty otherwise. `is_inner` marks the call
    of a runner, which another call waits for, and `is_message` that of one message of a stream of
    gRPC, which was answered with `messages`.

    For a model that is followed, `traffic` is how its requests are divided, and `given` the version
    that this one was given, unless its caller named one or another version took over. With
    `for_canary`, that is a canary; see `CanaryCall`.

    `needs` is what the route needs its callers to be allowed. Where the server asks who is calling,
    `principal` is the name of the key or token, `credentials` are the headers that have it, and
    `hides` says whether a model is hidden from this caller; None if no model is.
    """

    # Class attributes, because setting them on each instance would cost every request time.
    model: ServedModel | None = None
    timing: Timing | None = None
    status: int | str = 0
    received = 0
    sent = 0
    ended = False
    method = ""
    is_inner = False
    is_message = False
    messages = 0
    traffic: Traffic | None = None
    given: ServedModel | None = None
    for_canary = False
    needs: Needs | None = None
    principal: str | None = None
    credentials: tuple[bytes | str, ...] = ()
    hides: Callable[[str], bool] | None = None

    def __init__(
        self,
        protocol: str,
        route: str,
        request_id: str,
        peer: Any = None,
        headers: Mapping[Any, Any] = NO_HEADERS,
    ) -> None:
        self.protocol = protocol
        self.route = route
        self.request_id = request_id
        self.peer = peer
        self.headers = headers
        self.started = perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the request arrived."""
        return perf_counter() - self.started

    def header(self, name: str) -> str | None:
        """A header field, or a key of gRPC's metadata, by its lower-case name."""
        value = self.headers.get(name)
        return value if isinstance(value, str) else None

    def member(self, path: str) -> str | None:
        """The text or number at a dotted path of the body, or None if it has no such member."""
        return None


class Calls:
    """Carries calls to their models, and lets the observers know how each of them ends.

    A transport makes a `Call`, has it admitted, finds its model, decodes the request, and then
    `submit`s or `stream`s it. In the end it calls exactly one of `answered`, `refused` and `left`.
    """

    def __init__(self, observers: tuple[Observer, ...] = ()) -> None:
        self._active = observers
        self._observers = Observers(observers)
        # The id for a request, given the one that its caller chose, if any.
        self.request_id = RequestIds().of

    def observe(self, observer: Observer) -> None:
        """Let one more observer see the calls from now on."""
        self._active += (observer,)
        self._observers = Observers(self._active)

    def admit(self, call: Call) -> None:
        """Let observers look at a call before its body is read.

        Raises:
            HeadraceError: one of them refuses it.
        """
        for admit in self._observers.admit:
            admit(call)

    def open(self, call: Call) -> None:
        """Let observers look at a stream of gRPC before its first message, which may never come.

        Raises:
            HeadraceError: one of them refuses it.
        """
        for opened in self._observers.opened:
            opened(call)

    def begin(self, call: Call) -> None:
        """Let observers look at a call whose request is decoded; `submit` and `stream` do it too.

        Raises:
            HeadraceError: one of them refuses it.
        """
        for decoded in self._observers.decoded:
            decoded(call)

    def submit(
        self, call: Call, model: ServedModel, request: InferenceRequest, timeout: float | None
    ) -> asyncio.Future[InferenceResponse]:
        """Queue the request; cancel the future to withdraw it. Hot.

        Raises:
            ModelNotReady, InvalidInput, Overloaded: see `ServedModel.submit`.
        """
        call.model = model
        for decoded in self._observers.decoded:
            decoded(call)
        if call.traffic is not None:
            model = call.model = model.current
        answer = model.submit(request, timeout, call.timing)
        for submitted in self._observers.submitted:
            try:
                submitted(call, request, answer)
            except Exception:
                _log_bug()
        return answer

    async def stream(
        self, call: Call, model: ServedModel, request: InferenceRequest, timeout: float | None
    ) -> AsyncGenerator[InferenceResponse, None]:
        """The pieces of a streamed answer; closing the generator withdraws the request.

        Raises:
            HeadraceError: see `ServedModel.stream`; also in the middle, when the model fails.
        """
        call.model = model
        for decoded in self._observers.decoded:
            decoded(call)
        if call.traffic is not None:
            model = call.model = model.current
        async with aclosing(model.stream(request, timeout)) as pieces:
            async for piece in pieces:
                yield piece

    def answered(self, call: Call, status: int | str, sent: int) -> None:
        """The answer is about to be sent, or its last piece is. Hot."""
        if call.ended:
            return
        call.ended = True
        call.status, call.sent = status, sent
        for hook in self._observers.answered:
            try:
                hook(call)
            except Exception:
                _log_bug()

    def refused(self, call: Call, error: HeadraceError, status: int | str, sent: int) -> None:
        """The caller gets an error, in place of an answer or in the middle of one."""
        if call.ended:
            return
        call.ended = True
        call.status, call.sent = status, sent
        for hook in self._observers.refused:
            try:
                hook(call, error)
            except Exception:
                _log_bug()

    def left(self, call: Call, status: int | str) -> None:
        """The caller has gone before its answer, which is not a failure."""
        if call.ended:
            return
        call.ended = True
        call.status = status
        for hook in self._observers.left:
            try:
                hook(call)
            except Exception:
                _log_bug()


def _log_bug() -> None:
    """Log an observer's failure, which must not affect other observers or the answer."""
    logger.exception("an observer failed; this is a bug")


def as_error(exc: BaseException, request_id: str) -> HeadraceError:
    """The error to answer with; any other exception is a bug, and is logged."""
    if isinstance(exc, HeadraceError):
        return exc
    extra: dict[str, Any] = {"request_id": request_id}
    if isinstance(exc, MemoryError):
        logger.error("there was not enough memory for a request", extra=extra)
        return Overloaded("the server has not enough memory for this request now")
    logger.error("a request failed; this is a bug", exc_info=exc, extra=extra)
    return HeadraceError("the server failed on this request; its log has the details")
