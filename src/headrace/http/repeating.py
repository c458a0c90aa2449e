"""Repeats requests that are left without an answer, for proxies in front of several servers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from headrace.http.body import Receive

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

logger = logging.getLogger("headrace.http")

# How often a request is sent. Two servers that die with the same request are enough.
ATTEMPTS = 3
# Bytes of the bodies kept at once. Requests that come when there are more are sent only once.
MOST_KEPT = 256 * 1024 * 1024


class Repeating:
    """An ASGI middleware: if the application ends without an answer, it is called again.

    That is how a proxy behaves whose server died with the request, before the answer began. A
    server that died after it had done the work does it twice.
    """

    def __init__(self, app: Any, most_kept: int = MOST_KEPT) -> None:
        self._app = app
        self._most_kept = most_kept
        self._kept = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(receive, self._keep)
        is_answered = False

        async def sent(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            for attempt in range(ATTEMPTS):
                if attempt:
                    logger.warning("no answer to %s, sending it again", scope["path"])
                await self._app({**scope}, request.from_start(), sent)
                if is_answered or not request.can_repeat:
                    break
        finally:
            self._kept -= request.kept

    def _keep(self, size: int) -> bool:
        if self._kept + size > self._most_kept:
            return False
        self._kept += size
        return True


class _Request:
    """What a client sent so far, which can be read several times."""

    def __init__(self, receive: Receive, keep: Callable[[int], bool]) -> None:
        self._receive = receive
        self._keep = keep
        self._messages: list[Message] = []
        self.kept = 0
        self.can_repeat = True

    def from_start(self) -> Receive:
        """What reads all that was read before, and then what the client still sends."""
        read = iter(list(self._messages))

        async def receive() -> Message:
            for message in read:
                return message
            message = await self._receive()
            self._remember(message)
            return message

        return receive

    def _remember(self, message: Message) -> None:
        if not self.can_repeat:
            return
        size = len(message.get("body", b""))
        # The client may have left, and there may be no room.
        if message["type"] != "http.request" or not self._keep(size):
            self.can_repeat = False
            return
        self.kept += size
        self._messages.append(message)
