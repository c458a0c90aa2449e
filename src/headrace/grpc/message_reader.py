"""Puts the messages of a call together, within limits."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO

import grpc

from headrace.errors import Overloaded
from headrace.grpc.http2_frames import DEFAULT_WINDOW, PREFIX
from headrace.grpc.status_codes import error_metadata, row
from headrace.receive_budget import SEGMENT, ReceiveBudget, Upload

# zlib finds out whether it is gzip or deflate.
EITHER_FORMAT = 32 + zlib.MAX_WBITS
ENCODINGS = ("gzip", "deflate")
PREFIX_SIZE = PREFIX.size
# The client of a large message hears that it may send more when it may send no more than this.
LOW_WINDOW = SEGMENT // 2
# What a message that waits takes besides its bytes, at most.
OVERHEAD = 128

Sent = tuple[tuple[str, str], ...]


class Refused(Exception):
    """The call ends with a status, and with other trailing metadata if some is given."""

    def __init__(self, code: grpc.StatusCode, details: str, metadata: Sent | None = None) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.metadata = metadata


def overloaded(error: Overloaded) -> Refused:
    """The end of a call for which there is no room."""
    return Refused(row(error).code, error.message, error_metadata(error))


@dataclass
class Reception:
    """What a server may receive: `message` bytes in each message, and those of a budget in all.

    Held is what has arrived of a message, until its call is over or its stream takes the next one.
    A message that arrives in one frame is not counted unless others of its stream wait before it.
    Compressed messages are unpacked one after the other.
    """

    message: int
    budget: ReceiveBudget
    unpacking: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="unpack")
    )

    @property
    def held(self) -> int:
        """Bytes that count now, of all transports that share the budget."""
        return self.budget.held

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

    `window` is what the client may still send; `allow` sends it more, and `refuse` ends the call if
    others need its room. `is_stream` says whether there may be several messages.
    """

    __slots__ = (
        "_allow",
        "_begun",
        "_encoding",
        "_is_compressed",
        "_missing",
        "_prefix",
        "_reception",
        "_refuse",
        "_upload",
        "is_stream",
        "messages",
        "window",
    )

    def __init__(
        self,
        reception: Reception,
        encoding: str,
        is_stream: bool,
        allow: Callable[[int], None],
        refuse: Callable[[Refused], None],
    ) -> None:
        self._reception = reception
        self._encoding = encoding
        self._allow = allow
        self._refuse = refuse
        # What the server holds of this call; None while that is nothing.
        self._upload: Upload | None = None
        self.is_stream = is_stream
        self.window = DEFAULT_WINDOW
        # What has arrived and is not taken: whether it is compressed, and its bytes.
        self.messages: deque[tuple[bool, bytes]] = deque()
        self._prefix = b""
        # What has arrived of the message being received. A list of parts would take as much again
        # when it is joined.
        self._begun: BytesIO | None = None
        # Bytes that the message being received still lacks; None between messages.
        self._missing: int | None = None
        self._is_compressed = False

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
        if self._prefix:
            payload = self._prefix + payload
            self._prefix = b""
        position, end = 0, len(payload)
        while position < end:
            if self._missing is None:
                if end - position < PREFIX_SIZE:
                    self._prefix = payload[position:]
                    break
                flag, length = PREFIX.unpack_from(payload, position)
                self._begin(flag, length)
                position += PREFIX_SIZE
                if position + length > end:
                    self._missing = length
                    continue
                if self.messages:
                    self._hold(length + OVERHEAD)
                self.messages.append((self._is_compressed, payload[position : position + length]))
                position += length
            else:
                part = payload[position : position + self._missing]
                self._add(part)
                position += len(part)
        if self._missing is None and self._upload is not None:
            self._upload.arrived()
        self._allow_more()

    def _allow_more(self) -> None:
        """Let the client send on with a large message, as far as there is room."""
        if self._missing is None or self.window > LOW_WINDOW or self.is_paused:
            return
        if (lacking := self._missing - self.window) > 0:
            self._grant(min(lacking, self._reception.budget.step))

    @property
    def is_paused(self) -> bool:
        """Whether the client waits because all requests together have too many bytes."""
        return self._upload is not None and self._upload.is_paused

    @property
    def has_waited(self) -> bool:
        """Whether the client is late because it had to wait."""
        return self._upload is not None and self._upload.has_waited

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
                (("grpc-accept-encoding", ",".join(("identity", *ENCODINGS))),),
            )
        self._is_compressed = bool(flag)

    def _add(self, part: bytes) -> None:
        """Add a part of the message that is under way."""
        assert self._missing is not None, "a message is under way"
        self._hold(len(part))
        if self._begun is None:
            self._begun = BytesIO()
        self._begun.write(part)
        self._missing -= len(part)
        if not self._missing:
            self.messages.append((self._is_compressed, self._begun.getvalue()))
            self._begun = None
            self._missing = None

    def _hold(self, size: int) -> None:
        try:
            self._counted().hold(size)
        except Overloaded as error:
            raise overloaded(error) from None

    def _counted(self) -> Upload:
        if self._upload is None:
            self._upload = Upload(
                self._reception.budget, _do_nothing, self._allow_more, self._make_room
            )
        return self._upload

    def _make_room(self, error: Overloaded) -> None:
        self._refuse(overloaded(error))
        self.release()

    def release(self) -> None:
        """Count and keep none of what this call holds any more, which is over."""
        self._missing = self._begun = None
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.release()
        # The call and this would hold each other until the garbage is collected.
        self._allow = self._refuse = _do_nothing

    def read_on(self) -> None:
        """Let the client of a stream, whose messages have all been taken, send more."""
        if self._upload is not None:
            self._upload.release(0 if self._begun is None else self._begun.tell())
        if self.window < DEFAULT_WINDOW // 2:
            self._grant((self._missing or 0) + DEFAULT_WINDOW - self.window)

    def _grant(self, size: int) -> None:
        self.window += size
        self._allow(size)

    def take_plain(self) -> bytes | None:
        """The next message that has arrived; None if it has to be unpacked."""
        if self.messages[0][0]:
            return None
        return self.messages.popleft()[1]

    async def take(self) -> bytes:
        """The next message that has arrived, unpacked.

        Raises:
            Refused: it cannot be unpacked, or is too large then.
        """
        is_compressed, message = self.messages.popleft()
        return await self._unpacked(message) if is_compressed else message

    async def _unpacked(self, packed: bytes) -> bytes:
        most = self._reception.message
        loop = asyncio.get_running_loop()
        try:
            # One thread: that of a call that is cancelled meanwhile has to end before the next.
            message = await loop.run_in_executor(
                self._reception.unpacking, unpack, packed, most + 1
            )
        except zlib.error:
            why = f"the message is not {self._encoding}"
            raise Refused(grpc.StatusCode.INTERNAL, why) from None
        if len(message) > most:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the unpacked message has more than the {most} bytes of --max-body-size",
            )
        try:
            self._counted().unpack(len(message))
        except Overloaded as error:
            raise overloaded(error) from None
        return message


def _do_nothing(*_: object) -> None:
    """A client stops by itself when its window is used up, and a call that is over says nothing."""


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
