"""What an HTTP/2 connection sends: its frames, as far as its client accepts them.

All frames of one turn of the event loop leave in one write. Streams whose answers are larger than
their windows take turns.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headrace.grpc import http2_frames as frames
from headrace.grpc.http2_frames import ConnectionFault, Fault

if TYPE_CHECKING:
    from headrace.grpc.http2_stream import Stream


class Http2Output:
    """The sending half of a connection.

    `send_window` is how many bytes of data the client takes now, and `initial_send_window` how many
    it takes of any new stream.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.streams: dict[int, Stream] = {}
        self.is_paused = False
        # What the first header block begins with; empty once it has been sent.
        self.notice = frames.NO_TABLE
        self.initial_send_window = frames.DEFAULT_WINDOW
        self.send_window = frames.DEFAULT_WINDOW
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._out: list[bytes] = []
        self._is_flushing = False
        # Whether windows have grown or changed in this turn.
        self._has_grown = self._has_resized = False
        # Streams that may send, in the order of their turns, and those that wait to write.
        self._behind: dict[int, Stream] = {}
        self._waiting: list[Stream] = []

    def write(self, *parts: bytes) -> None:
        """Send frames, together with what else is written until the loop's next turn. Hot."""
        self._out += parts
        if not self._is_flushing:
            self._is_flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        if self._out:
            out, self._out = self._out, []
            self._transport.write(b"".join(out) if len(out) > 1 else out[0])

    def write_fields(self, number: int, block: bytes, flags: int) -> None:
        """Send the first or last fields of an answer."""
        self.write(frames.headers(number, self.notice + block, flags))
        self.notice = b""

    def send(self, stream: Stream) -> None:
        """Send what a stream has, as far as its client takes it."""
        self._behind[stream.number] = stream
        self._send_on()

    def wait_for_room(self, stream: Stream) -> None:
        """Call `has_room` once a stream may write again."""
        if self.is_paused:
            self._waiting.append(stream)
        elif not stream.unsent:
            stream.has_room()

    def _go_on(self) -> None:
        """Send on, because the client reads again."""
        self._send_on()
        waiting, self._waiting = self._waiting, []
        for stream in waiting:
            self.wait_for_room(stream)

    def _grow(self, size: int) -> None:
        """Note that the client accepts so many more bytes on the connection.

        Raises:
            ConnectionFault: it cannot say that.
        """
        if not size:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "a window grows by nothing")
        self.send_window += size
        if self.send_window > frames.MAX_WINDOW:
            raise ConnectionFault(Fault.FLOW_CONTROL_ERROR, "a window is too large")
        self._has_grown = True

    def _grow_stream(self, stream: Stream, size: int) -> None:
        """Note that the client accepts so many more bytes of a stream."""
        if not size:
            stream.break_off(Fault.PROTOCOL_ERROR)
        elif stream.send_window + size > frames.MAX_WINDOW:
            stream.break_off(Fault.FLOW_CONTROL_ERROR)
        else:
            stream.granted += size
            if stream.unsent:
                self._behind[stream.number] = stream
                self._has_grown = True

    def _resize(self, size: int) -> None:
        """Note that the client accepts so many bytes of any stream."""
        self.initial_send_window = size
        self._has_grown = self._has_resized = True

    def _use_windows(self) -> None:
        """Send on, once in a turn, because each time may cost something for each stream.

        Raises:
            ConnectionFault: the window of a stream is too large now.
        """
        if not self._has_grown:
            return
        has_resized = self._has_resized
        self._has_grown = self._has_resized = False
        if has_resized:
            for stream in self.streams.values():
                if stream.send_window > frames.MAX_WINDOW:
                    raise ConnectionFault(Fault.FLOW_CONTROL_ERROR, "a window is too large")
                if stream.unsent:
                    self._behind[stream.number] = stream
        self._send_on()

    def _send_on(self) -> None:
        """Send a frame of each stream in turn, until the client takes no more."""
        behind = self._behind
        while behind and self.send_window > 0 and not self.is_paused:
            stream = behind.pop(next(iter(behind)))
            if not self._send_frame(stream):
                # It has its turn again once its window has grown.
                stream.stalls()
            elif stream.unsent:
                behind[stream.number] = stream
            elif stream.is_open:
                stream.sent()
                self.wait_for_room(stream)
        for stream in behind.values():
            stream.stalls()

    def _send_frame(self, stream: Stream) -> bool:
        size = min(self.send_window, stream.send_window, frames.MAX_FRAME)
        if size <= 0:
            return False
        parts = []
        taken = 0
        while stream.unsent and taken < size:
            part = stream.unsent.popleft()
            if len(part) > size - taken:
                stream.unsent.appendleft(part[size - taken :])
                part = part[: size - taken]
            parts.append(part)
            taken += len(part)
        stream.granted -= taken
        self.send_window -= taken
        self._flush()
        head = frames.HEADER.pack(taken << 8 | frames.DATA, 0, stream.number)
        self._transport.write(b"".join((head, *parts)))
        stream.progresses()
        return True
