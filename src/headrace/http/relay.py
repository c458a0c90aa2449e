"""A model's own answer over ASGI, sent in the pieces in which it comes."""

from __future__ import annotations

from typing import Any

from headrace.adapters.adapter import Reply


class Relay:
    """An answer of unknown length; its head is that of its first piece."""

    def __init__(self, send: Any, request_id: bytes) -> None:
        self._send = send
        self._request_id = request_id
        self.started = False
        self.status = 0
        self.sent = 0

    async def send(self, piece: Reply) -> None:
        """Send one piece."""
        if not self.started:
            self.started = True
            self.status = piece.status
            fields = [*piece.headers, (b"x-request-id", self._request_id)]
            await self._send(
                {"type": "http.response.start", "status": piece.status, "headers": fields}
            )
        self.sent += len(piece.body)
        await self._send({"type": "http.response.body", "body": piece.body, "more_body": True})

    async def end(self) -> None:
        """End the answer."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def break_off(self, connection: Any, receive: Any) -> None:
        """Close the connection in the middle of the answer, so that it cannot be taken for whole.

        Raises:
            RuntimeError: another server has the connection, and closes it because of this.
        """
        if connection is None:
            raise RuntimeError("a streamed answer ended in the middle")
        connection.transport.close()
        while (await receive())["type"] != "http.disconnect":
            pass
