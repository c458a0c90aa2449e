"""Server-sent events over ASGI."""

from __future__ import annotations

from typing import Any


class Events:
    """A server-sent event stream whose head goes out with its first event."""

    def __init__(self, send: Any, request_id: bytes) -> None:
        self._send = send
        self._request_id = request_id
        self._added: list[tuple[bytes, bytes]] = []
        self.started = False
        self.sent = 0

    def add_headers(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Add header fields to the answer; once its head has been sent, this does nothing."""
        if not self.started:
            self._added = fields

    async def send(self, event: bytes) -> None:
        """Send one event."""
        await self._start()
        self.sent += len(event)
        await self._send({"type": "http.response.body", "body": event, "more_body": True})

    async def end(self) -> None:
        """End the stream."""
        await self._start()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self) -> None:
        if self.started:
            return
        self.started = True
        fields = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            *self._added,
            (b"x-request-id", self._request_id),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": fields})
