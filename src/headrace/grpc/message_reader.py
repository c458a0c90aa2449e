"""Puts the messages of a call together, within limits."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc

from headrace.grpc.http2_frames import DEFAULT_WINDOW, PREFIX

# zlib finds out whether it is gzip or deflate.
EITHER_FORMAT = 32 + zlib.MAX_WBITS
ENCODINGS = ("gzip", "deflate")
PREFIX_SIZE = PREFIX.size


class Refused(Exception):
    """The call ends with a status."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


@dataclass
class Reception:
    """What a server may receive: `message` bytes in each message, `total` in all that it holds.

    Held is what has arrived of a message, until its call is over or its stream takes the next one;
    small messages that arrive in one frame are not counted. Compressed messages are unpacked one
    after the other.
    """

    message: int
    total: int
    held: int = 0
    unpacking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def hold(self, size: int) -> None:
        """Count bytes.

        Raises:
            Refused: all calls together hold too many.
        """
        if self.held + size > self.total:
            raise Refused(
                grpc.StatusCode.UNAVAILABLE,
                f"the messages being received have more than {self.total} bytes together "
                "(--max-receive-bytes)",
            )
        self.held += size

    def check_size(self, size: int) -> None:
        """Refuse a message of more bytes than one may have.

        Raises:
            Refused: it has.
        """
        if size > self.message:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the message has {size} bytes, more than the {self.message} of --max-body-size",
            )


class MessageReader:
    """The messages of one call as they arrive.

    `window` is what the client may still send; `allow` sends it more. `is_stream` says whether
    there may be several messages.
    """

    __slots__ = (
        "_allow",
        "_chunks",
        "_encoding",
        "_held",
        "_is_compressed",
        "_missing",
        "_prefix",
        "_reception",
        "is_stream",
        "messages",
        "window",
    )

    def __init__(
        self, reception: Reception, encoding: str, is_stream: bool, allow: Callable[[int], None]
    ) -> None:
        self._reception = reception
        self._encoding = encoding
        self._allow = allow
        self.is_stream = is_stream
        self.window = DEFAULT_WINDOW
        # What has arrived and is not taken: whether it is compressed, and its bytes.
        self.messages: deque[tuple[bool, bytes]] = deque()
        self._prefix = b""
        self._chunks: list[bytes] = []
        # Bytes that the message being received still lacks; None between messages.
        self._missing: int | None = None
        self._is_compressed = False
        self._held = 0

    @property
    def is_within(self) -> bool:
        """Whether a message has begun and is not complete."""
        return self._missing is not None or bool(self._prefix)

    def receive(self, payload: bytes, size: int) -> None:
        """Take the payload of a frame, which uses `size` bytes of the window. Hot.

        Raises:
            Refused: a message is not acceptable, or too large.
        """
        self.window -= size
        if self.window < 0:
            raise Refused(grpc.StatusCode.INTERNAL, "the client sends more than it may")
        while payload:
            if self._missing is None:
                payload = self._prefix + payload if self._prefix else payload
                if len(payload) < PREFIX_SIZE:
                    self._prefix = payload
                    break
                flag, length = PREFIX.unpack_from(payload)
                self._begin(flag, length)
                if len(payload) == PREFIX_SIZE + length:
                    self._complete(payload[PREFIX_SIZE:])
                    break
                self._missing = length
                self._prefix = b""
                payload = payload[PREFIX_SIZE:]
            payload = self._add(payload)
        if self._missing is not None and self._missing > self.window:
            self._grant(self._missing - self.window)

    def _begin(self, flag: int, length: int) -> None:
        self._reception.check_size(length)
        if self.messages and not self.is_stream:
            raise Refused(grpc.StatusCode.INTERNAL, "the call has more than one message")
        if flag > 1 or (flag and self._encoding in ("", "identity")):
            raise Refused(grpc.StatusCode.INTERNAL, "the first byte of the message is wrong")
        if flag and self._encoding not in ENCODINGS:
            raise Refused(
                grpc.StatusCode.UNIMPLEMENTED,
                f"grpc-encoding: expected gzip or deflate, got '{self._encoding[:50]}'",
            )
        self._is_compressed = bool(flag)

    def _add(self, payload: bytes) -> bytes:
        """Add what belongs to the message that is under way; returns what follows it."""
        assert self._missing is not None, "a message is under way"
        part, rest = payload[: self._missing], payload[self._missing :]
        self._hold(len(part))
        self._chunks.append(part)
        self._missing -= len(part)
        if not self._missing:
            self._complete(b"".join(self._chunks))
        return rest

    def _complete(self, message: bytes) -> None:
        self.messages.append((self._is_compressed, message))
        self._prefix = b""
        self._chunks = []
        self._missing = None

    def _hold(self, size: int) -> None:
        self._reception.hold(size)
        self._held += size

    def release(self) -> None:
        """Count none of what this call holds any more."""
        self._reception.held -= self._held
        self._held = 0

    def read_on(self) -> None:
        """Let the client of a stream, whose messages have all been taken, send more."""
        if self._missing is None:
            self.release()
        if self.window < DEFAULT_WINDOW // 2:
            self._grant((self._missing or 0) + DEFAULT_WINDOW - self.window)

    def _grant(self, size: int) -> None:
        self.window += size
        self._allow(size)

    async def take(self) -> bytes:
        """The next message that has arrived, unpacked.

        Raises:
            Refused: it cannot be unpacked, or is too large then.
        """
        is_compressed, message = self.messages.popleft()
        return await self._unpacked(message) if is_compressed else message

    async def _unpacked(self, packed: bytes) -> bytes:
        most = self._reception.message
        async with self._reception.unpacking:
            try:
                message = await asyncio.to_thread(unpack, packed, most + 1)
            except zlib.error:
                why = f"the message is not {self._encoding}"
                raise Refused(grpc.StatusCode.INTERNAL, why) from None
            if len(message) > most:
                raise Refused(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"the unpacked message has more than the {most} bytes of --max-body-size",
                )
            self._hold(len(message))
        return message


def unpack(packed: bytes, most: int) -> bytes:
    """The first `most` bytes of what is packed.

    Raises:
        zlib.error: it is neither gzip nor deflate, or cut off.
    """
    inflater = zlib.decompressobj(EITHER_FORMAT)
    message = inflater.decompress(packed, most)
    if not inflater.eof and len(message) < most:
        raise zlib.error("cut off")
    return message
