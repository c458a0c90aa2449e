"""A connection that answers small requests without a task, and parses each head only once. Hot."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from headrace.http.connection import Connection
from headrace.http.cycle import Cycle, DirectCycle
from headrace.http.direct import Direct, Head, Heads
from headrace.http.ending_connection import BODY, IDLE, NEVER
from headrace.http.header_fields import collect

# Larger bodies go to the ASGI application, which can apply back-pressure.
LARGEST_DIRECT = 64 * 1024


class DirectConnection(Connection):
    """Gives requests that are small, plain and first in line to `direct`, and others to the app.

    `heads` are shared by the connections of a listener. A request whose head is one of them, and
    which arrives in one piece, is not parsed at all; see docs/decisions/0004.
    """

    def __init__(self, *arguments: Any, direct: Direct, heads: Heads) -> None:
        super().__init__(*arguments)
        self._direct = direct
        self._heads = heads
        self._largest_direct = min(LARGEST_DIRECT, self._settings.max_body_size)
        self._direct_cycle = DirectCycle(self)
        # The head of a direct request whose body is being received, and who answers it.
        self._head: Head | None = None
        self._match: Any = None
        # The text of the head that is about to be parsed, if it begins the segment.
        self._text = b""

    def _let_go(self) -> None:
        super()._let_go()
        self._head = self._match = None
        self._direct_cycle.let_go()

    def data_received(self, data: bytes) -> None:
        if self._receiving == IDLE:
            end = data.find(b"\r\n\r\n") + 4
            text = data[:end]
            head = self._heads.get(text)
            if head is not None and len(data) - end == head.length and self._is_free():
                match = self._direct.match(head.path)
                if match is not None:
                    self._receive_known(head, match, data[end:])
                    return
            self._text = text
        super().data_received(data)

    def _receive_known(self, head: Head, match: Any, body: bytes) -> None:
        """Answer a request of which everything but the body is known."""
        self.expect_100_continue = False
        scope = self.scope = head.scope.copy()  # type: ignore[assignment]
        scope["server"] = self.server
        scope["client"] = self.client
        scope["scheme"] = self.scheme
        scope["headrace.connection"] = self
        self._direct_cycle.begin(True)
        self.cycle = cast(Cycle, self._direct_cycle)
        self._timed = IDLE
        self.deadline = NEVER
        self._answer(match, head, body)

    def _is_free(self) -> bool:
        """Whether a request can be answered at once: none is before it, and its answer can go."""
        return (
            (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            and not self._lingering
            and not self.transport.is_closing()
        )

    def _start_cycle(self, version: str) -> None:
        text, self._text = self._text, b""
        scope = cast("dict[str, Any]", self.scope)
        match = None
        if (
            not self._suspect
            and self._length <= self._largest_direct
            and scope["method"] == "POST"
            and self._is_free()
        ):
            match = self._direct.match(scope["path"])
        self._match = match
        if match is None:
            super()._start_cycle(version)
            return
        head = self._head = Head(scope, collect(scope["headers"]), self._length)
        keep_alive = self._keeps_alive(version)
        if keep_alive:
            self._heads.remember(text, head)
        self._direct_cycle.begin(keep_alive)
        self._direct_cycle.body = bytearray()
        self.cycle = cast(Cycle, self._direct_cycle)

    def _has_arrived(self, cycle: Any) -> None:
        head, self._head = self._head, None
        if head is None:
            super()._has_arrived(cycle)
            return
        match, self._match = self._match, None
        self._no_longer_awaited()
        if not self.transport.is_closing():
            self._answer(match, head, bytes(cycle.body))

    def _answer(self, match: Any, head: Head, body: bytes) -> None:
        cycle = self._direct_cycle
        if match.route.may_stream and self._direct.needs_task(match, body):
            self._answer_in_task(cycle.keep_alive, body)
            return
        future = self._direct.direct(self, match, head.fields, body, cycle.answer)
        if future is not None:
            self.tasks.add(future)  # type: ignore[arg-type]

    def _answer_in_task(self, keep_alive: bool, body: bytes) -> None:
        """Let the application answer; the request has arrived whole, so it finds all of it."""
        # An application may change the list, which the scopes of other requests share.
        self.scope["headers"] = list(self.scope["headers"])
        self.cycle = cycle = self._new_cycle(keep_alive)
        cycle.body += body
        cycle.more_body = False
        cycle.message_event.set()
        self._start_asgi_task(cycle, self.app)

    def continued(self, future: asyncio.Future[Any], task: asyncio.Task[Any]) -> None:
        """A direct request's future is done, but a task still has to answer it."""
        self.settled(future)
        self.tasks.add(task)

    def settled(self, future: asyncio.Future[Any]) -> None:
        """A direct request's future is done; nothing is in flight for it any more."""
        self.on_disconnect = None
        self.tasks.discard(future)

    def _received_part(self, size: int) -> None:
        super()._received_part(size)
        if self._receiving == BODY and self._head is not None:
            self._await_arrival()
