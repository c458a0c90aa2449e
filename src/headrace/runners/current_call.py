"""Whose work is being done: the request of an endpoint, and the way to the models it calls.

A worker sets both. In any other process there is no link, and runners are local or refuse.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import ContextVar
from threading import Lock
from typing import Any, Callable, Optional, Protocol, Union

from headrace.errors import Cancelled, HeadraceError
from headrace.protocol.messages import InferenceRequest, InferenceResponse

Outcome = Union[InferenceResponse, HeadraceError]
Done = Callable[[Outcome], None]


class Link(Protocol):
    """The way from this process to the server that batches the requests of every model."""

    def begin(
        self, model: str, request: InferenceRequest, timeout: float | None, done: Done
    ) -> int:
        """Send a request for a model; `done` gets its outcome in any thread, once."""

    def withdraw(self, call: int) -> None:
        """Withdraw a request; its `done` is not called any more."""

    def wake(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], Any]) -> None:
        """Run a callback soon on a loop of this process."""


class Answer:
    """What a thread waits for: the first outcome that it is settled with.

    A lock is all that it takes: a future would wake the thread more than once.
    """

    __slots__ = ("_outcome", "_unsettled")

    def __init__(self) -> None:
        self._outcome: Outcome | None = None
        self._unsettled = Lock()
        self._unsettled.acquire()

    def settle(self, outcome: Outcome) -> None:
        """End the wait, unless it has ended. Any thread."""
        if self._outcome is None:
            self._outcome = outcome
            # If two threads settle it at once, one of them finds the lock released.
            with suppress(RuntimeError):
                self._unsettled.release()

    def wait(self) -> InferenceResponse:
        """Wait for the response, or raise the error that came instead."""
        self._unsettled.acquire()
        outcome = self._outcome
        assert outcome is not None, "it was settled"
        if isinstance(outcome, HeadraceError):
            raise outcome
        return outcome


class EndpointCall:
    """One request of one endpoint while it is being answered.

    `deadline` is a time of `time.monotonic()`, or None. `stop` is what ends its work once nobody
    waits for the answer. `loop` is what a coroutine runs on, in the thread `thread`.
    """

    __slots__ = (
        *("_is_cancelled", "_waiting", "deadline", "link", "loop", "request_id", "stop"),
        "thread",
    )

    def __init__(self, link: Link, deadline: float | None, request_id: str) -> None:
        self.link = link
        self.deadline = deadline
        self.request_id = request_id
        self.stop: Callable[[], Any] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread = 0
        self._is_cancelled = False
        self._waiting: set[Answer] = set()

    def cancel(self) -> None:
        """Let go of its work: the caller has left, or its time is up."""
        self._is_cancelled = True
        if self.stop is not None:
            self.stop()
        for answer in list(self._waiting):
            _give_up(answer)

    @property
    def is_cancelled(self) -> bool:
        return self._is_cancelled

    def waits_for(self, answer: Answer) -> None:
        """A thread waits for this answer, and is to stop waiting when the call is cancelled."""
        self._waiting.add(answer)
        if self._is_cancelled:
            _give_up(answer)

    def waited_for(self, answer: Answer) -> None:
        """The thread has stopped waiting."""
        self._waiting.discard(answer)


def _give_up(answer: Answer) -> None:
    answer.settle(Cancelled("nobody waits for the answer any more"))


# `Optional`, as Python 3.9 evaluates it.
CURRENT: ContextVar[Optional[EndpointCall]] = ContextVar("headrace_endpoint_call", default=None)  # noqa: UP045
_links: list[Link] = []


def connect(link: Link) -> None:
    """Have runners that are called outside of a request use this link, such as in start hooks."""
    _links.append(link)


def disconnect(link: Link) -> None:
    """The link is gone."""
    _links.remove(link)


def link_of(call: EndpointCall | None) -> Link | None:
    """The link to send the calls of runners over; None outside of a served process."""
    if call is not None:
        return call.link
    return _links[-1] if _links else None
