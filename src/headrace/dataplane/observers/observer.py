"""The hooks that an observer may have, and those of all active observers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from headrace.dataplane.call import Call
    from headrace.errors import HeadraceError
    from headrace.protocol.messages import InferenceRequest, InferenceResponse


class Observer:
    """Sees every call, refusals included. A hook that is not overridden costs nothing.

    Hooks run on the event loop, between one request and the next, so none may block.
    """

    def admit(self, call: Call) -> None:
        """A call has arrived and is not decoded yet.

        Raises:
            HeadraceError: to refuse the call.
        """

    def opened(self, call: Call) -> None:
        """A stream of gRPC begins, each message of which will be admitted as a call of its own.

        Raises:
            HeadraceError: to refuse all of it.
        """

    def decoded(self, call: Call) -> None:
        """The call's model is found and its request decoded.

        Raises:
            HeadraceError: to refuse the call.
        """

    def submitted(
        self,
        call: Call,
        request: InferenceRequest,
        answer: asyncio.Future[InferenceResponse],
    ) -> None:
        """The request is on its way to the call's model. Not called for streams."""

    def answered(self, call: Call) -> None:
        """The call is answered, with `call.status`."""

    def refused(self, call: Call, error: HeadraceError) -> None:
        """The call is answered with an error. Its model is None if none was found yet."""

    def left(self, call: Call) -> None:
        """The caller left before the answer."""


class Observers:
    """The hooks of several observers, in order, without those that do nothing."""

    def __init__(self, observers: tuple[Observer, ...]) -> None:
        def hooks(name: str) -> tuple[Callable[..., Any], ...]:
            idle = getattr(Observer, name)
            return tuple(
                getattr(observer, name)
                for observer in observers
                if getattr(type(observer), name) is not idle
            )

        self.admit = hooks("admit")
        self.opened = hooks("opened")
        self.decoded = hooks("decoded")
        self.submitted = hooks("submitted")
        self.answered = hooks("answered")
        self.refused = hooks("refused")
        self.left = hooks("left")
