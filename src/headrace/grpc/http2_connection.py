"""One HTTP/2 connection of gRPC calls.

Every call pays for two frames read and one write that it shares with others. What a client may make
the server hold is bounded: calls by `MAX_STREAMS`, their messages by `Reception`, header fields by
`--max-header-size`, answers that it does not read by flow control and by not reading from it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from headrace.grpc import http2_frames as frames
from headrace.grpc.call_heads import HeadReader
from headrace.grpc.hpack import EXCESS
from headrace.grpc.http2_frames import ConnectionFault, Fault
from headrace.grpc.http2_output import Http2Output
from headrace.grpc.http2_stream import Stream

if TYPE_CHECKING:
    from headrace.grpc.http2_server import Http2Server

logger = logging.getLogger("headrace.grpc")

NEVER = math.inf
MAX_STREAMS = 256
# Frames that are read in one turn of the event loop; other connections have theirs before the next.
MAX_FRAMES = 1024
# Calls that a client may open in one turn; more than `MAX_STREAMS` of them are refused, even if it
# has cancelled others in between.
MAX_OPENED = MAX_STREAMS + MAX_STREAMS // 2
# Calls that begin before other connections have their turn: the event loop may read several times
# before, and some calls are given to their model at once.
CALLS_IN_TURN = 64
MAX_CONTINUATIONS = 64
# The client hears that it may send more after it has sent this many bytes.
REFILL = 2**30
# Seconds after saying good-bye in which a client may hang up by itself.
FAREWELL = 1.0
FAREWELL_PING = b"farewell"


class Http2Connection(Http2Output, asyncio.Protocol):
    """A client's connection. `deadline` is the loop time after which `expire` ends it."""

    def __init__(self, server: Http2Server) -> None:
        super().__init__(server.loop)
        self.reception = server.reception
        self.body_timeout = server.settings.body_timeout
        self.peer = ""
        self.deadline = NEVER
        self._server = server
        self._settings = server.settings
        self._handlers = server.handlers
        self._heads = HeadReader(server.settings.max_header_size)
        self._rest = b""
        self._is_greeted = False
        self._last_number = 0
        # Calls opened in this turn.
        self._opened = 0
        self._gives_turn = False
        # Whether the client is told that the connection is to end, and whether it knows.
        self.is_leaving = False
        self._has_left = False
        self._received = 0
        age = server.settings.grpc_connection_age
        # They would all come back at once if they were all told to go at once.
        self._ages_at = (
            NEVER if age is None else server.loop.time() + age * random.uniform(0.9, 1.1)
        )
        # The header block being received: its number, its flags and its parts.
        self._block: tuple[int, int, list[bytes]] | None = None

    # The transport.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self.peer = _peer(transport.get_extra_info("peername"))
        self._server.connections.add(self)
        most = self._settings.max_header_size
        values = {frames.MAX_CONCURRENT_STREAMS: MAX_STREAMS, frames.MAX_HEADER_LIST_SIZE: most}
        self.write(frames.settings(values))
        if not self._server.limit.add(self):
            self._end(Fault.ENHANCE_YOUR_CALM, "too many connections (--max-connections)")
            return
        # What is kept of each call is bounded; the connection's own window need not be.
        self.write(frames.window_update(0, frames.MAX_WINDOW - frames.DEFAULT_WINDOW))
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.lost(self)
        self._rest = b""
        self._out.clear()
        for stream in list(self.streams.values()):
            stream.cancel()

    def pause_writing(self) -> None:
        self.is_paused = True
        # Who does not read answers need not ask for more.
        self._transport.pause_reading()
        self._set_deadline()

    def resume_writing(self) -> None:
        self.is_paused = False
        self._set_deadline()
        self._transport.resume_reading()
        try:
            self._go_on()
        except Exception as exc:
            self.fail(exc)

    def _set_deadline(self) -> None:
        """Set when the connection has to get further, after its state has changed."""
        settings = self._settings
        if self._transport.is_closing() or (self.is_leaving and not self.streams):
            seconds = FAREWELL
        elif self.is_paused:
            seconds = settings.body_timeout
        elif not self._is_greeted or self._block is not None:
            seconds = settings.header_timeout
        elif not self.streams:
            seconds = settings.keep_alive_timeout
        else:
            seconds = NEVER
        self.deadline = self.loop.time() + seconds

    def start(self, serving: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a call."""
        task = self.loop.create_task(serving)
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)
        return task

    def forget(self, stream: Stream) -> None:
        """A call is over."""
        del self.streams[stream.number]
        self._behind.pop(stream.number, None)
        if not self.streams:
            self._set_deadline()

    # What arrives.

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        try:
            position = 0 if self._is_greeted else self._greet(data)
            self._opened = 0
            self._rest = data[self._read(data, position) :]
            if self._opened >= CALLS_IN_TURN:
                self._give_turn()
            if self._received >= REFILL:
                self.write(frames.window_update(0, self._received))
                self._received = 0
            self._use_windows()
        except ConnectionFault as fault:
            self._end(fault.fault, fault.why)
        except Exception as exc:
            self.fail(exc)
        self._flush()

    def _greet(self, data: bytes) -> int:
        expected = frames.PREFACE[: len(data)]
        if not data.startswith(expected):
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "this port speaks gRPC, over HTTP/2")
        size = len(frames.PREFACE)
        if len(data) < size + frames.HEADER.size:
            return 0
        first, flags, _ = frames.HEADER.unpack_from(data, size)
        if first & 0xFF != frames.SETTINGS or flags & frames.ACK:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "the first frame has to be settings")
        self._is_greeted = True
        self._set_deadline()
        return size

    def _read(self, data: bytes, position: int) -> int:
        """Read whole frames, up to `MAX_FRAMES`; returns where the rest begins. Hot."""
        if not self._is_greeted or self._transport.is_closing():
            return position
        unpack, most, streams = frames.HEADER.unpack_from, frames.MAX_STREAM, self.streams
        size = len(data)
        for _ in range(MAX_FRAMES):
            if size - position < frames.HEADER.size:
                return position
            first, flags, number = unpack(data, position)
            length = first >> 8
            if length > frames.MAX_FRAME:
                raise ConnectionFault(Fault.FRAME_SIZE_ERROR, "a frame is too large")
            begin = position + frames.HEADER.size
            position = begin + length
            if position > size:
                return begin - frames.HEADER.size
            kind = first & 0xFF
            number &= most
            if self._block is not None and kind != frames.CONTINUATION:
                raise ConnectionFault(Fault.PROTOCOL_ERROR, "a header block is interrupted")
            if kind == frames.DATA:
                self._received += length
                stream = streams.get(number)
                if stream is not None and flags <= frames.END_STREAM:
                    stream.receive(data[begin:position], length, flags == frames.END_STREAM)
                else:
                    self._data(number, flags, data[begin:position])
            elif kind == frames.HEADERS and flags == frames.END_HEADERS and number & 1:
                self._open(number, data[begin:position], False)
            elif kind == frames.HEADERS:
                self._headers(number, flags, data[begin:position])
            else:
                self._other(kind, number, flags, data[begin:position])
        self._give_turn()
        return position

    def _give_turn(self) -> None:
        """Read on once other connections have been read from."""
        if not self._gives_turn:
            self._gives_turn = True
            self._transport.pause_reading()
            self.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        self._gives_turn = False
        if self._transport.is_closing():
            return
        if not self.is_paused:
            self._transport.resume_reading()
        self._receive(self._rest)

    def _data(self, number: int, flags: int, payload: bytes) -> None:
        size = len(payload)
        if flags & frames.PADDED:
            payload = frames.content(frames.PADDED, payload)
        stream = self.streams.get(number)
        if stream is not None:
            stream.receive(payload, size, bool(flags & frames.END_STREAM))
        else:
            self._check_opened(number)

    def _check_opened(self, number: int) -> None:
        if number > self._last_number or not number & 1:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "a frame is for a stream that is not open")

    def _headers(self, number: int, flags: int, payload: bytes) -> None:
        if flags & (frames.PADDED | frames.WITH_PRIORITY):
            payload = frames.content(flags, payload)
        if not number & 1:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "clients open streams with odd numbers")
        if flags & frames.END_HEADERS:
            self._open(number, payload, bool(flags & frames.END_STREAM))
        else:
            self._block = (number, flags, [payload])
            self._set_deadline()

    def _continuation(self, number: int, flags: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "a header block is out of place")
        _, first_flags, parts = self._block
        parts.append(payload)
        size = sum(len(part) for part in parts)
        if size > EXCESS * self._settings.max_header_size or len(parts) > MAX_CONTINUATIONS:
            raise ConnectionFault(Fault.ENHANCE_YOUR_CALM, "the metadata is too large")
        if flags & frames.END_HEADERS:
            self._block = None
            self._set_deadline()
            self._open(number, b"".join(parts), bool(first_flags & frames.END_STREAM))

    def _open(self, number: int, block: bytes, ends: bool) -> None:
        head, refusal = self._heads.read(block)
        if number <= self._last_number:
            if not ends or head is not None:
                raise ConnectionFault(Fault.PROTOCOL_ERROR, "a call begins twice")
            # Of a call that is over, the end may still arrive.
            if (stream := self.streams.get(number)) is not None:
                stream.end_by_fields()
            return
        self._last_number = number
        is_full = len(self.streams) >= MAX_STREAMS
        self._opened += not is_full
        if is_full or self._opened > MAX_STREAMS or self._has_left:
            if self._opened > MAX_OPENED:
                raise ConnectionFault(Fault.ENHANCE_YOUR_CALM, "too many calls at once")
            self.write(frames.reset(number, Fault.REFUSED_STREAM))
            return
        if head is None:
            if not refusal:
                self.write(frames.reset(number, Fault.PROTOCOL_ERROR))
            else:
                self._refuse(number, refusal, ends)
            return
        handler = self._handlers.get(head.path)
        if handler is None:
            self._refuse(number, frames.ANSWER + frames.status(12, "Method not found!"), ends)
            return
        stream = self.streams[number] = Stream(self, number, head, handler)
        if len(self.streams) == 1:
            self._set_deadline()
        if ends:
            stream.end_by_fields()

    def _refuse(self, number: int, block: bytes, ends: bool) -> None:
        self.write_fields(number, block, frames.END_STREAM)
        if not ends:
            self.write(frames.reset(number, Fault.NO_ERROR))

    def _other(self, kind: int, number: int, flags: int, payload: bytes) -> None:
        frames.check(kind, number, payload)
        if kind == frames.WINDOW_UPDATE:
            self._window_update(number, payload)
        elif kind == frames.RST_STREAM:
            stream = self.streams.get(number)
            if stream is None:
                self._check_opened(number)
            else:
                stream.cancel()
        elif kind == frames.SETTINGS:
            if not flags & frames.ACK:
                self._take_settings(payload)
            elif payload:
                raise ConnectionFault(Fault.FRAME_SIZE_ERROR, "an acknowledgement has settings")
        elif kind == frames.PING:
            if not flags & frames.ACK:
                self.write(frames.frame(frames.PING, frames.ACK, 0, payload))
            elif self.is_leaving and payload == FAREWELL_PING:
                self._leave()
        elif kind == frames.CONTINUATION:
            self._continuation(number, flags, payload)
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "clients push nothing")

    def _window_update(self, number: int, payload: bytes) -> None:
        size = int.from_bytes(payload) & frames.MAX_WINDOW
        if not number:
            self._grow(size)
        elif (stream := self.streams.get(number)) is not None:
            self._grow_stream(stream, size)
        else:
            self._check_opened(number)

    def _take_settings(self, payload: bytes) -> None:
        found = frames.settings_of(payload)
        if frames.INITIAL_WINDOW_SIZE in found:
            self._resize(found[frames.INITIAL_WINDOW_SIZE])
        self.write(frames.frame(frames.SETTINGS, frames.ACK, 0))

    # How it ends.

    @property
    def idle_since(self) -> float | None:
        """The loop time since when nothing is being received or answered; None if something is."""
        if self.streams or self.is_paused or self.is_leaving or self._transport.is_closing():
            return None
        if not self._is_greeted or self._block is not None:
            return self.deadline - self._settings.header_timeout
        return self.deadline - self._settings.keep_alive_timeout

    @property
    def is_new(self) -> bool:
        """Whether no call has arrived yet."""
        return not self._last_number

    def make_way(self) -> None:
        """Close, since it is idle, to make room for another connection."""
        self._end(Fault.NO_ERROR, "other clients need the connection (--max-connections)")

    def expire(self, now: float) -> None:
        """End what is overdue: the connection, or calls on it."""
        if self._ages_at <= now:
            self.go_away()
        if self.deadline <= now:
            is_idle = self._is_greeted and self._block is None and not self.streams
            if is_idle and not self.is_leaving and not self._transport.is_closing():
                self.go_away()
            elif self._transport.is_closing() or self.is_paused or not self._is_greeted:
                self.abort()
            else:
                self.close()
            return
        for stream in list(self.streams.values()):
            if stream.deadline <= now:
                stream.expire(now)

    def go_away(self) -> None:
        """Take no more calls than are on their way; close after the last of them."""
        if self.is_leaving or self._transport.is_closing():
            return
        self.is_leaving = True
        # Until the client has read the first of them, it may begin calls; its answer to the ping
        # says that it has.
        self.write(frames.go_away(frames.MAX_WINDOW, Fault.NO_ERROR))
        self.write(frames.frame(frames.PING, 0, 0, FAREWELL_PING))
        self.loop.call_later(FAREWELL, self._leave)
        self._set_deadline()

    def _leave(self) -> None:
        if self._has_left or self._transport.is_closing():
            return
        self._has_left = True
        self.write(frames.go_away(self._last_number, Fault.NO_ERROR))

    def close(self) -> None:
        """Close once everything that is written has left."""
        self._flush()
        self._transport.close()
        self._set_deadline()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def fail(self, exc: Exception) -> None:
        """End the connection, and no other, after a failure of the server's own."""
        logger.error("a gRPC connection failed; this is a bug", exc_info=exc)
        self._end(Fault.INTERNAL_ERROR, "the server failed on this connection")

    def _end(self, fault: Fault, why: str) -> None:
        self.write(frames.go_away(self._last_number, fault, why))
        self.close()


def _peer(address: Any) -> str:
    """A caller's address, as grpcio writes it."""
    if not isinstance(address, tuple):
        return "unix:"
    host, port = address[:2]
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"
