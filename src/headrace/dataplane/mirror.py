"""Sends copies of requests to the shadow of a model, and compares its answers."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import NamedTuple

from headrace.dataplane.agreement import difference
from headrace.dataplane.lull import Lull
from headrace.errors import HeadraceError
from headrace.executors.daemon_thread import DaemonThread
from headrace.observability.counters import ShadowCounts
from headrace.protocol import model_call
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Tensor
from headrace.rollouts.split import Spacing, threshold
from headrace.serving.served_model import ServedModel

logger = logging.getLogger("headrace.shadow")

# Copies that may wait for the shadow; the bytes of them and their answers, with those on their way;
# and copies on their way at once.
MOST_WAITING = 128
MOST_BYTES = 32 * 1024 * 1024
MOST_AT_ONCE = 8
# Seconds until the next look, when there was no time for the shadow.
PAUSE = 0.005
# After this many failures in a row, a shadow gets a copy only once in as many seconds.
FAILURES_IN_A_ROW, LONG_PAUSE = 10, 1.0
# Answers of more bytes are not compared on the event loop.
SMALL = 16 * 1024
# Disagreements and failures of a shadow that are logged one by one. After these, there is one line
# in as many seconds.
LOGGED, LOG_INTERVAL = 5, 60.0
# Errors that are the shadow's own answer to what the primary has answered well.
OF_THE_SHADOW = frozenset(
    ("model_error", "bad_model_output", "internal", "poisoned", "worker_crashed",
     "invalid_argument", "malformed_body", "unimplemented")
)  # fmt: skip


class Copy(NamedTuple):
    """A request to send again, and what the primary answered; `size` is that of both in bytes."""

    request: InferenceRequest
    expected: InferenceResponse
    size: int


class Mirror:
    """The shadow of one model: its queue of copies, and what is counted.

    Copies wait here, apart from the requests of callers, and are sent one by one when nothing else
    is to be done: no request of the primary waits, and the event loop is idle. Those that come
    when the queue is full are dropped. `judge` gets whether an answer was that of the primary; a
    failure that is the shadow's own fault counts as a different answer.
    """

    def __init__(
        self,
        primary: ServedModel,
        shadow: ServedModel,
        sample: float,
        tolerance: float,
        judge: Callable[[bool], None],
        lull: Lull,
        thread: Callable[[], DaemonThread],
    ) -> None:
        self.primary = primary
        self.shadow = shadow
        self._below = threshold(sample * 100)
        self._spacing = Spacing()
        self._tolerance = tolerance
        self._judge = judge
        self._lull = lull
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Copy] = deque()
        self._bytes = 0
        self._sent: set[asyncio.Future[InferenceResponse]] = set()
        self._comparing = 0
        self._is_looking = False
        self._timer: asyncio.TimerHandle | None = None
        # What there was to do instead, at the last look.
        self._instead = "server_busy"
        self._failures = 0
        self._ended = False
        self._logged = 0
        self._log_again = 0.0
        self._counts = shadow.metrics.shadow = shadow.metrics.shadow or ShadowCounts()

    def offer(self, request: InferenceRequest, answer: asyncio.Future[InferenceResponse]) -> None:
        """Send a copy of a request once it is answered, if it is in the sample. Hot."""
        if model_call.is_route(request) or self._spacing.next() >= self._below:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._drop(self._what_holds_up())
        elif not self.shadow.is_ready:
            self._drop("not_ready")
        else:
            answer.add_done_callback(partial(self._answered, copy_of(request)))

    def end(self) -> None:
        """Drop what waits, and withdraw what is on its way."""
        self._ended = True
        for _ in self._waiting:
            self._drop("ended")
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        for answer in self._sent:
            answer.cancel()

    def _answered(
        self, request: InferenceRequest, answer: asyncio.Future[InferenceResponse]
    ) -> None:
        """Queue the copy, unless there is no answer to compare with."""
        if self._ended or answer.cancelled() or answer.exception() is not None:
            return
        expected = answer.result()
        size = request.nbytes + expected.nbytes
        if size > MOST_BYTES:
            self._drop("too_large")
        elif len(self._waiting) >= MOST_WAITING or self._bytes + size > MOST_BYTES:
            self._drop(self._what_holds_up())
        else:
            self._bytes += size
            self._waiting.append(Copy(request, _kept(expected), size))
            self._look()

    def _drop(self, reason: str) -> None:
        self._counts.dropped[reason] = self._counts.dropped.get(reason, 0) + 1

    def _what_holds_up(self) -> str:
        """Why the first copy in the queue has not been sent."""
        if self._failures >= FAILURES_IN_A_ROW:
            return "failing"
        return self._instead if self._has_room else "shadow_busy"

    @property
    def _has_room(self) -> bool:
        return len(self._sent) + self._comparing < MOST_AT_ONCE

    @property
    def _primary_waits(self) -> bool:
        batcher = self.primary.batcher
        return batcher is not None and batcher.queued > 0

    def _look(self) -> None:
        """Look for a moment to send the next copy in."""
        if self._waiting and self._has_room and not self._is_looking and self._timer is None:
            self._is_looking = True
            self._lull.look(self._looked)

    def _looked(self, is_idle: bool) -> None:
        self._is_looking = False
        if not self._waiting or not self._has_room:
            return
        if self._primary_waits or not is_idle:
            self._instead = "primary_busy" if self._primary_waits else "server_busy"
            self._look_later(PAUSE)
            return
        self._send(self._waiting.popleft())
        if self._failures >= FAILURES_IN_A_ROW:
            self._look_later(LONG_PAUSE)
        else:
            self._look()

    def _look_later(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self._look()

    def _send(self, copy: Copy) -> None:
        began = perf_counter()
        try:
            answer = self.shadow.submit(copy.request, None)
        except HeadraceError as error:
            self._bytes -= copy.size
            self._failed(error, copy)
            return
        self._sent.add(answer)
        answer.add_done_callback(partial(self._settled, copy, began))

    def _settled(self, copy: Copy, began: float, answer: asyncio.Future[InferenceResponse]) -> None:
        self._sent.discard(answer)
        self._counts.duration.observe(perf_counter() - began)
        if answer.cancelled():
            self._bytes -= copy.size
        elif (error := answer.exception()) is not None:
            self._bytes -= copy.size
            self._failed(error, copy)
        else:
            self._compare(copy, answer.result())
        self._look()

    def _compare(self, copy: Copy, found: InferenceResponse) -> None:
        if copy.expected.nbytes <= SMALL and found.nbytes <= SMALL:
            self._bytes -= copy.size
            self._judged(copy, difference(copy.expected, found, self._tolerance))
            return
        self._comparing += 1
        job = self._thread().submit(difference, copy.expected, found, self._tolerance)
        asyncio.wrap_future(job).add_done_callback(partial(self._compared, copy))

    def _compared(self, copy: Copy, job: asyncio.Future[str]) -> None:
        self._comparing -= 1
        self._bytes -= copy.size
        if not job.cancelled():
            self._judged(copy, job.result())
        self._look()

    def _judged(self, copy: Copy, found: str) -> None:
        self._failures = 0
        self._counts.compared += 1
        if found:
            self._counts.disagreed += 1
            self._log(f"answers otherwise than version {self.primary.version}: {found}", copy)
        self._inform(not found)

    def _failed(self, error: BaseException, copy: Copy) -> None:
        kind = error.kind if isinstance(error, HeadraceError) else "internal"
        self._failures += 1
        self._counts.errors[kind] = self._counts.errors.get(kind, 0) + 1
        if kind in OF_THE_SHADOW:
            why = error.message if isinstance(error, HeadraceError) else type(error).__name__
            self._log(f"fails where version {self.primary.version} answers: {why}", copy)
            self._inform(False)

    def _inform(self, agrees: bool) -> None:
        if not self._ended:
            self._judge(agrees)

    def _log(self, what: str, copy: Copy) -> None:
        now = self._loop.time()
        if self._logged >= LOGGED and now < self._log_again:
            return
        self._logged += 1
        self._log_again = now + LOG_INTERVAL
        fields = {
            "model": self.shadow.name,
            "version": self.shadow.version,
            "role": "shadow",
            "request_id": copy.request.id,
        }
        logger.warning("the shadow, version %s, %s", self.shadow.version, what, extra=fields)


def copy_of(request: InferenceRequest) -> InferenceRequest:
    """A request that can be sent whatever happens to the one that it is a copy of."""
    inputs = [_copy(tensor, tensor.data) for tensor in request.inputs]
    parameters, context = request.parameters, request.context
    return InferenceRequest(
        inputs,
        dict(parameters) if parameters is not None else None,
        list(request.outputs) if request.outputs is not None else None,
        request.id,
        dict(context) if context is not None else None,
    )


def _kept(response: InferenceResponse) -> InferenceResponse:
    """An answer apart from those of its batch, which would otherwise stay in memory with it."""
    outputs = [_copy(tensor, bytes(tensor.data)) for tensor in response.outputs]
    return InferenceResponse(outputs, response.parameters)


def _copy(tensor: Tensor, data: bytes | bytearray | memoryview) -> Tensor:
    parameters = dict(tensor.parameters) if tensor.parameters else tensor.parameters
    return Tensor(tensor.name, tensor.datatype, tensor.shape, data, parameters)
