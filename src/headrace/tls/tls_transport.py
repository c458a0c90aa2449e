"""A server's side of TLS, between a connection of the event loop and the protocol that it serves.

The event loop has one of its own, which answers neither a client that speaks no TLS nor one whose
certificate is refused, cannot close one direction, and counts no connection before its handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from headrace.tls.certificates import Certificates

logger = logging.getLogger("headrace.tls")

# The first byte of a client's first message in TLS (RFC 8446, 5.1).
HANDSHAKE = 0x16
# The most that one record holds.
RECORD = 16 * 1024
# What is encrypted before it is seen whether the client reads it.
PIECE = 4 * RECORD
# Handshakes that advance in one turn of the event loop: each may cost a signature, and requests on
# other connections go on in between.
HANDSHAKES_IN_TURN = 8


class TlsDoor:
    """What the connections of a listener have in common; a call makes the next one.

    `connect` makes the protocol of a connection whose handshake is done, which `protocol` names in
    it. `hint` is the answer to a client that does not speak TLS. A handshake may take `timeout`
    seconds, and `most` connections may be in one.
    """

    def __init__(
        self,
        certificates: Certificates,
        protocol: str,
        connect: Callable[[], asyncio.Protocol],
        *,
        hint: bytes,
        timeout: float,
        most: int,
    ) -> None:
        self.connect = connect
        self.hint = hint
        self.timeout = timeout
        self.handshakes: set[TlsTransport] = set()
        self._certificates = certificates
        self._protocol = protocol
        self._most = most
        self._waiting: deque[TlsTransport] = deque()
        self._is_advancing = False

    def __call__(self) -> TlsTransport:
        return TlsTransport(self)

    @property
    def context(self) -> ssl.SSLContext:
        """The context for the next connection."""
        return self._certificates.current.contexts[self._protocol]

    @property
    def is_full(self) -> bool:
        """Whether more connections are in a handshake than may be."""
        return len(self.handshakes) > self._most

    def advance(self, connection: TlsTransport) -> None:
        """Go on with a handshake, in its turn."""
        self._waiting.append(connection)
        if not self._is_advancing:
            self._is_advancing = True
            asyncio.get_running_loop().call_soon(self._advance)

    def failed(self) -> None:
        """Count a handshake that came to nothing."""
        self._certificates.failed_handshakes += 1

    def abort(self) -> None:
        """End the connections whose handshake is not done."""
        for connection in list(self.handshakes):
            connection.abort()

    def _advance(self) -> None:
        count = min(HANDSHAKES_IN_TURN, len(self._waiting))
        turn = [self._waiting.popleft() for _ in range(count)]
        self._is_advancing = bool(self._waiting)
        if self._is_advancing:
            asyncio.get_running_loop().call_soon(self._advance)
        for connection in turn:
            try:
                connection.shake()
            except Exception as exc:
                logger.error("a handshake of TLS failed; this is a bug", exc_info=exc)
                connection.abort()


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """One connection: the protocol of the event loop's transport, and the transport of another."""

    def __init__(self, door: TlsDoor) -> None:
        super().__init__()
        self._door = door
        self._raw: asyncio.Transport = None  # type: ignore[assignment]
        self._protocol: asyncio.Protocol | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = door.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._timer: asyncio.TimerHandle | None = None
        # What is not encrypted yet, because the client has not read what was.
        self._unsent: deque[memoryview] = deque()
        self._unsent_size = 0
        self._has_begun = False
        # Whether the client is behind, and whether the other protocol knows.
        self._is_paused = self._has_paused = False
        # Whether nothing more will be written, whether the client knows, and whether it said so.
        self._ends_writing = self._has_ended_writing = self._has_eof = False
        self._is_closing = False
        self._peer_certificate: dict[str, Any] | None = None

    # The event loop's protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast("asyncio.Transport", transport)
        self._door.handshakes.add(self)
        if self._door.is_full:
            logger.debug("%s: as many handshakes at once as --max-connections allows", self._peer)
            self.abort()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._door.timeout, self._expire)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_handshake()
        self._is_closing = True
        self._forget_unsent()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        if self._protocol is not None:
            self._incoming.write(data)
            self._receive()
            return
        if not self._has_begun and data[0] != HANDSHAKE:
            self._door.failed()
            logger.debug("%s speaks no TLS", self._peer)
            self._is_closing = True
            if self._door.hint:
                self._raw.write(self._door.hint)
            self._raw.close()
            return
        self._has_begun = True
        self._incoming.write(data)
        # So that nothing piles up until it is this connection's turn.
        self._raw.pause_reading()
        self._door.advance(self)

    def eof_received(self) -> bool:
        if self._protocol is None:
            return False
        if not self._is_closing:
            self._receive_eof()
        return not self._is_closing or bool(self._unsent)

    def pause_writing(self) -> None:
        self._is_paused = True
        if self._protocol is not None and not self._has_paused:
            self._has_paused = True
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._is_paused = False
        self._send()
        if self._has_paused and not self._is_paused and self._protocol is not None:
            self._has_paused = False
            self._protocol.resume_writing()

    # The handshake.

    def shake(self) -> None:
        """Go on with the handshake, as far as what has arrived allows."""
        if self._is_closing:
            return
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            self._raw.resume_reading()
            return
        except ssl.SSLError as error:
            self._door.failed()
            self._fail(error)
            return
        self._flush()
        self._end_handshake()
        self._raw.resume_reading()
        self._protocol = self._door.connect()
        self._protocol.connection_made(self)
        if self._is_paused:
            self.pause_writing()
        if not self._is_closing:
            self._receive()

    def _fail(self, error: ssl.SSLError) -> None:
        """End a connection on which TLS has failed; the client is told why, as far as TLS can."""
        reason = getattr(error, "verify_message", "") or error.reason or "protocol error"
        logger.debug("%s: TLS failed: %s", self._peer, reason.lower().replace("_", " "))
        self._flush()
        self._is_closing = True
        self._forget_unsent()
        self._raw.close()

    def _forget_unsent(self) -> None:
        self._unsent.clear()
        self._unsent_size = 0

    def _expire(self) -> None:
        self._door.failed()
        logger.debug("%s: the handshake of TLS took too long", self._peer)
        self.abort()

    def _end_handshake(self) -> None:
        self._door.handshakes.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _peer(self) -> str:
        address = self._raw.get_extra_info("peername")
        return f"{address[0]}:{address[1]}" if address else "a client"

    # What arrives.

    def _receive(self) -> None:
        """Decrypt all that has arrived, and pass it on in one piece, as it came."""
        pieces = []
        is_over = False
        try:
            while piece := self._tls.read(RECORD):
                pieces.append(piece)
            is_over = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            is_over = True
        except ssl.SSLError as error:
            self._fail(error)
            return
        # An answer to a message of TLS itself.
        if self._outgoing.pending:
            self._flush()
        assert self._protocol is not None
        if pieces:
            self._protocol.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if is_over and not self._is_closing:
            self._receive_eof()

    def _receive_eof(self) -> None:
        if self._has_eof:
            return
        self._has_eof = True
        assert self._protocol is not None
        if not self._protocol.eof_received():
            self.close()

    # The transport of the other protocol.

    def write(self, data: Any) -> None:
        if not data or self._is_closing or self._ends_writing:
            return
        if not self._unsent and not self._is_paused and len(data) <= PIECE:
            self._encrypt(memoryview(data))
            return
        # The caller may change a buffer of its own.
        view = memoryview(data if isinstance(data, bytes) else bytes(data))
        self._unsent.append(view)
        self._unsent_size += len(view)
        self._send()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def _send(self) -> None:
        """Encrypt what is unsent, until the client is behind."""
        while self._unsent and not self._is_paused:
            view = self._unsent.popleft()
            if len(view) > PIECE:
                self._unsent.appendleft(view[PIECE:])
                view = view[:PIECE]
            self._unsent_size -= len(view)
            self._encrypt(view)
        if not self._unsent and not self._raw.is_closing():
            if self._ends_writing:
                self._end_writing()
            if self._is_closing:
                # Not at once: asyncio's transports cannot be closed while they say that there is
                # room again.
                asyncio.get_running_loop().call_soon(self._raw.close)

    def _encrypt(self, view: memoryview) -> None:
        try:
            while view:
                view = view[self._tls.write(view) :]
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())

    def _end_writing(self) -> None:
        """Tell the client that nothing follows."""
        if self._has_ended_writing:
            return
        self._has_ended_writing = True
        # The client's own last message is not here yet, and nobody waits for it.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()

    def close(self) -> None:
        """Close once all that was written has been sent."""
        if self._is_closing:
            return
        self._is_closing = self._ends_writing = True
        if self._protocol is not None:
            self._send()
        else:
            self._raw.close()

    def abort(self) -> None:
        self._is_closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._is_closing or self._raw.is_closing()

    def can_write_eof(self) -> bool:
        """Whether only this side may end: a client of TLS that ends its own has left."""
        return not self._has_eof

    def write_eof(self) -> None:
        if not self._ends_writing:
            self._ends_writing = True
            self._send()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def is_reading(self) -> bool:
        return self._raw.is_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def get_write_buffer_size(self) -> int:
        return self._unsent_size + self._raw.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sslcontext":
            return self._tls.context
        if name == "ssl_object":
            return self._tls
        if name == "peercert":
            if self._peer_certificate is None:
                self._peer_certificate = self._tls.getpeercert() or {}
            return self._peer_certificate or default
        return self._raw.get_extra_info(name, default)
