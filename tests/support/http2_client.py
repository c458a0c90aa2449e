"""A client of HTTP/2 that sends whatever frames a test wants, right or wrong."""

from __future__ import annotations

import asyncio
import struct
from typing import NamedTuple

from headrace.grpc import http2_frames as frames
from headrace.grpc.hpack import Decoder, literal
from support.certificates import Secured

PATIENCE = 30
# What servers and clients have for TLS, if they speak it.
SECURED: Secured | None = None
CALL = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":authority", b"here"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


def begin(stream: int, path: bytes, *more: tuple[bytes, bytes], flags: int = 0) -> bytes:
    """The frame that opens a call."""
    fields = (CALL[0], CALL[1], CALL[2], (b":path", path), *CALL[3:], *more)
    encoded = b"".join(literal(*field) for field in fields)
    return frames.headers(stream, encoded, flags)


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    """A frame of data."""
    return frames.frame(frames.DATA, flags, stream, payload)


def message(body: bytes, size: int | None = None, compressed: int = 0) -> bytes:
    """A message of gRPC, or the beginning of one that has `size` bytes."""
    return frames.PREFIX.pack(compressed, len(body) if size is None else size) + body


def call(stream: int, path: bytes, body: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A whole call."""
    return begin(stream, path, *more) + data(stream, message(body), frames.END_STREAM)


class Http2Client:
    """A connection; close it with `aclose`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = Decoder()

    @classmethod
    async def connect(cls, port: int, settings: dict[int, int] | None = None) -> Http2Client:
        """Connect and greet."""
        context = SECURED.context if SECURED is not None else None
        self = cls(*await asyncio.open_connection("127.0.0.1", port, ssl=context))
        self.send(frames.PREFACE, frames.settings(settings or {}))
        return self

    def send(self, *parts: bytes) -> None:
        """Send bytes, which need not be whole frames."""
        self._writer.write(b"".join(parts))

    async def frame(self) -> Frame | None:
        """The next frame; None if the server has closed the connection."""
        try:
            async with asyncio.timeout(PATIENCE):
                head = await self._reader.readexactly(frames.HEADER.size)
                first, flags, stream = frames.HEADER.unpack(head)
                payload = await self._reader.readexactly(first >> 8)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return Frame(first & 0xFF, flags, stream, payload)

    async def next(self, kind: int, stream: int = 0) -> Frame:
        """The next frame of a kind and a stream."""
        while (found := await self.frame()) is not None:
            if (found.kind, found.stream) == (kind, stream):
                return found
        raise AssertionError(f"the connection closed before a frame of kind {kind}")

    async def status(self, stream: int) -> tuple[int, str]:
        """The status that ends a call, and its details."""
        while True:
            found = await self.next(frames.HEADERS, stream)
            fields = dict(self._decoder.decode(found.payload, 2**20) or ())
            if found.flags & frames.END_STREAM:
                return int(fields[b"grpc-status"]), fields.get(b"grpc-message", b"").decode()

    async def fault(self) -> tuple[int, str]:
        """Why the server ends the connection, and in which words; it closes then."""
        while True:
            payload = (await self.next(frames.GOAWAY)).payload
            _, fault = struct.unpack(">II", payload[:8])
            if fault:
                break
        assert await self.rest() is not None
        return fault, payload[8:].decode()

    async def rest(self) -> list[Frame]:
        """What is sent until the server closes."""
        found = []
        while (each := await self.frame()) is not None:
            found.append(each)
        return found

    async def aclose(self) -> None:
        if SECURED is None:
            self._writer.close()
            return
        # Otherwise it would wait for the server's own end, which some do not send.
        self._writer.transport.abort()
        await asyncio.sleep(0)
