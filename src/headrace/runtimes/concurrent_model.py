"""A model that works on several requests at once, such as a service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Callable, Union

from headrace.errors import Unimplemented
from headrace.model import Model
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.runners.current_call import EndpointCall

Finish = Callable[[Union[InferenceResponse, BaseException]], None]
# Sends a piece of an answer, as soon as the server takes it.
Put = Callable[[InferenceResponse], Awaitable[None]]


class ConcurrentModel(Model):
    """A model whose requests are begun and finished apart; its metadata has its concurrency.

    Requests are received on its `loop` too, once it is loaded.
    """

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that its coroutines run on."""
        raise NotImplementedError

    def begin(self, request: InferenceRequest, call: EndpointCall, finish: Finish) -> None:
        """Begin to answer a request. Returns at once and raises nothing.

        `finish` gets the answer or the error, once, in any thread. `call.stop` is set to what
        ends the work when nobody waits for it any more.
        """
        raise NotImplementedError

    def begin_stream(
        self, request: InferenceRequest, call: EndpointCall, put: Put, finish: Finish
    ) -> None:
        """As `begin`, but the answer is `put` in pieces on the loop, before it is finished."""
        finish(Unimplemented(f"model '{self.settings.name}' does not stream answers"))

    def infer(self, request: InferenceRequest) -> Any:
        """Not used: requests are begun."""
        raise NotImplementedError(f"{type(self).__name__} takes requests by begin")
