"""The answer to one request, for ASGI tasks and for requests that need none.

uvicorn writes an answer's head and body separately, which is two system calls and often two
packets for an answer of a hundred bytes. Both cycles here join them; see docs/decisions/0004.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.server import ServerState

from headrace.adapters.adapter import JSON_HEADERS, Reply
from headrace.connection_limit import ConnectionLimit
from headrace.http.body import SOURCE
from headrace.http.half_closed import HalfClosed
from headrace.receive_budget import ReceiveBudget
from headrace.settings import ServerSettings

WITHOUT_BODY = (204, 304)
# Bytes of a body from which on it is written apart from what precedes it.
LARGE = 256 * 1024


class Cycle(RequestResponseCycle):
    """Holds the head of an answer of known length until its body follows."""

    _head = b""
    # Whether closing the connection ends the answer, as in HTTP/1.0.
    _until_close = False
    # What `receive_rest` has of the body, and how much more it takes.
    _whole: BytesIO | None = None
    _room = 0

    def take(self, part: bytes) -> bool:
        """Keep a part of the body; True if nothing more should be read for now. Hot."""
        if self._whole is None:
            self.body += part
            self.message_event.set()
            return len(self.body) > HIGH_WATER_LIMIT
        self._whole.write(part)
        self._room -= len(part)
        if self._room >= 0:
            return False
        self.message_event.set()
        return True

    async def receive_rest(self, begun: bytes, limit: int) -> tuple[bytes, bool]:
        """The whole body that begins with `begun`, and whether it is complete. Hot.

        It is incomplete if the client left, or once there are more than `limit` bytes. Parts are
        collected as they arrive, so that a large body wakes its task only when it is complete, and
        where they stay: a list of them would take as much again when it is joined.
        """
        whole = self._whole = BytesIO()
        whole.write(begun)
        whole.write(self.body)
        self._room = limit - len(begun) - len(self.body)
        self.body = bytearray()
        self.flow.resume_reading()
        while self.more_body and self._room >= 0 and not self.disconnected:
            self.message_event.clear()
            await self.message_event.wait()
        self._whole = None
        # Not a copy, as long as nothing is written any more.
        return whole.getvalue(), not self.more_body and not self.disconnected

    def unpacked(self, size: int) -> None:
        """Count bytes that the body has after decompression, until it is answered.

        Raises:
            Overloaded: all requests together have too many.
        """
        self.transport.hold(size, unpacked=True)  # type: ignore[attr-defined]

    async def run_asgi(self, app: Any) -> None:
        await super().run_asgi(app)
        # Each refers to the other, and would stay until the collector of cycles looks for them.
        self.scope.pop(SOURCE, None)  # type: ignore[misc]

    async def send(self, message: Any) -> None:
        """Send one ASGI message of the answer. Hot."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.start" and not self.response_started:
            self._start(message["status"], message.get("headers", []))
        elif kind == "http.response.body" and self.response_started and not self.response_complete:
            self._write(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"'{kind}' was sent out of order; this is a bug")

    def _start(self, status: int, headers: Any) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        lines = [STATUS_LINE[status]]
        closes = False
        for name, value in self.default_headers:
            closes = closes or name == b"connection"
            lines += (name, b": ", value, b"\r\n")
        for name, value in headers:
            if b"\n" in value or b"\r" in value:
                raise RuntimeError("an answer's header contains a line break; this is a bug")
            if name == b"content-length":
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif name == b"connection":
                if closes:
                    continue
                closes = b"close" in value.lower()
            lines += (name, b": ", value, b"\r\n")
        if closes:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close\r\n")
        if self.scope["method"] == "HEAD" or status in WITHOUT_BODY:
            self.chunked_encoding = False
        elif self.chunked_encoding is None and self.scope["http_version"] == "1.0":
            # HTTP/1.0 has no chunks (RFC 9112 7.1); its connections are never kept alive here.
            self.chunked_encoding = False
            self._until_close = True
        elif self.chunked_encoding is None:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)
        if self.chunked_encoding or self._until_close:
            self._flush(b"")

    def _write(self, body: bytes, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self._flush(b"")
            self.expected_content_length = 0
        elif self.chunked_encoding:
            if len(body) >= LARGE:
                self._flush(b"%x\r\n" % len(body))
                self._flush(body)
                chunk = b"\r\n"
            else:
                chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self._flush(chunk if more else chunk + b"0\r\n\r\n")
        elif self._until_close:
            self._flush(body)
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("an answer is longer than its Content-Length; this is a bug")
            self._flush(body)
        if more:
            return
        if self.expected_content_length:
            raise RuntimeError("an answer is shorter than its Content-Length; this is a bug")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _flush(self, body: bytes) -> None:
        head, self._head = self._head, b""
        if head and len(body) >= LARGE:
            # What is large is not copied to be sent in the same packet.
            self.transport.write(head)
            self.transport.write(body)
        elif head or body:
            self.transport.write(head + body if head else body)


class AnswerHeads(ServerState):
    """What the connections of a listener share; the heads of answers are kept up by its ticks.

    `common_head` is the head of a JSON answer with status 200, up to the value of its request id;
    empty while answers close their connections. Without `half_closed`, a client that sends nothing
    more counts as gone.
    """

    def __init__(
        self,
        half_closed: HalfClosed | None = None,
        budget: ReceiveBudget | None = None,
        limit: ConnectionLimit | None = None,
    ) -> None:
        super().__init__()
        self.limit = limit or ConnectionLimit(ServerSettings.max_connections)
        self.budget = budget or ReceiveBudget(ServerSettings.max_receive_bytes)
        self.half_closed = half_closed
        self.common_head = b""

    def refresh(self, date: str, closes: bool) -> None:
        """Set the default headers."""
        headers = [(b"date", date.encode())]
        if closes:
            headers.append((b"connection", b"close"))
        # In place: an answer reads this list when it is sent, so that requests already
        # under way announce the close too.
        self.default_headers[:] = headers
        fields = b"".join(b"%b: %b\r\n" % field for field in (*headers, *JSON_HEADERS))
        self.common_head = b"" if closes else STATUS_LINE[200] + fields + b"x-request-id: "


class DirectCycle:
    """Answers a connection's direct requests, one at a time and without a task.

    One object serves a connection for its whole life. It has the attributes that uvicorn's
    protocol reads from any cycle.
    """

    __slots__ = (
        "_connection",
        "body",
        "disconnected",
        "keep_alive",
        "message_event",
        "response_complete",
        "response_started",
    )

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.message_event = self
        self.disconnected = False

    def begin(self, keep_alive: bool) -> None:
        """Reset for the next request."""
        self.body = bytearray()
        self.keep_alive = keep_alive
        self.response_started = self.response_complete = False

    def let_go(self) -> None:
        """Refer to nothing that refers to this object, which nobody uses any more."""
        del self._connection, self.message_event

    def take(self, part: bytes) -> bool:
        """Keep a part of the body; never so much that reading has to stop. Hot."""
        self.body += part
        return False

    def set(self) -> None:
        """Do nothing: this object stands in for the event that other cycles have."""

    def answer(self, reply: Reply, request_id: str) -> None:
        """Send a whole answer; its fields are trusted, and at most one is `connection`. Hot."""
        connection = self._connection
        if connection.transport.is_closing():
            return
        status, fields, body = reply
        keep_alive = self.keep_alive
        state = connection.server_state
        if fields is JSON_HEADERS and status == 200 and keep_alive and state.common_head:
            head = b"%b%b\r\ncontent-length: %d\r\n\r\n"
            head %= (state.common_head, request_id.encode(), len(body))
            if len(body) < LARGE:
                connection.transport.write(head + body)
            else:
                self._send(head, body)
            self.response_started = self.response_complete = True
            connection.on_response_complete()
            return
        lines = [STATUS_LINE[status]]
        for name, value in (*state.default_headers, *fields):
            if name == b"connection":
                keep_alive = False
            else:
                lines += (name, b": ", value, b"\r\n")
        if not keep_alive:
            lines.append(b"connection: close\r\n")
        framing = b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n"
        lines.append(framing % (request_id.encode(), len(body)))
        self._send(b"".join(lines), body)
        self.response_started = self.response_complete = True
        if not keep_alive:
            connection.close()
        connection.on_response_complete()

    def _send(self, head: bytes, body: bytes) -> None:
        write = self._connection.transport.write
        if len(body) < LARGE:
            write(head + body)
        else:
            write(head)
            write(body)
