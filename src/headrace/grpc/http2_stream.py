"""One call on an HTTP/2 connection: its handler, its answers and its deadlines.

A handler that has `direct` is given a message that is there without a task; see `DirectHandler`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import struct
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from headrace.grpc import http2_frames as frames
from headrace.grpc.call_heads import CallHead
from headrace.grpc.direct_handler import Direct
from headrace.grpc.hpack import literals
from headrace.grpc.message_reader import PREFIX_SIZE, MessageReader, Refused, Sent, overloaded

if TYPE_CHECKING:
    from headrace.grpc.http2_connection import Http2Connection

logger = logging.getLogger("headrace.grpc")

NEVER = math.inf
# What an answer begins with: the frame of its first fields, and the head and the prefix of its
# message, whose sizes and stream are missing.
_BEGIN = struct.Struct(f">IBI{len(frames.ANSWER)}sIBIBI")
_ANSWER = len(frames.ANSWER) << 8 | frames.HEADERS
_OK = frames.status(0, "")
# Bytes of a message of protobuf. What models may answer is bounded before, and less.
LARGEST_ANSWER = 2**31 - 1


class Stream:
    """A call. To its handler it is what `grpc.aio.ServicerContext` is."""

    __slots__ = (
        "_caller_deadline",
        "_connection",
        "_direct",
        "_drained",
        "_handler",
        "_has_begun",
        "_has_ended",
        "_head",
        "_last",
        "_message_deadline",
        "_reader",
        "_stall_deadline",
        "_trailers",
        "_waiter",
        "answering",
        "granted",
        "is_open",
        "number",
        "unsent",
    )

    def __init__(
        self, connection: Http2Connection, number: int, head: CallHead, handler: Any
    ) -> None:
        now = connection.loop.time()
        self._connection = connection
        self._handler = handler
        self._direct: Direct | None = getattr(handler, "direct", None)
        self._head = head
        # Made when it is needed: most direct calls have all their message in one frame.
        self._reader: MessageReader | None = None
        self.number = number
        self.is_open = True
        # Whether the client sends nothing more, and whether the answer's first fields are sent.
        self._has_ended = False
        self._has_begun = False
        # Bytes that the client takes beyond those that it takes of any stream; negative once sent.
        self.granted = 0
        # What the client does not take yet, and the fields that end the answer after it.
        self.unsent: deque[memoryview] = deque()
        self._last: bytes | None = None
        self._trailers: Sent = ()
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        # What is cancelled if the call ends before its answer.
        self.answering: asyncio.Future[Any] | None = None
        self._caller_deadline = NEVER if head.timeout is None else now + head.timeout
        # When the message being received, and the answer being sent, must have got somewhere.
        self._message_deadline = self._stall_deadline = NEVER
        if handler.request_streaming:
            self.answering = connection.start(self._serve())
        else:
            self._message_deadline = now + connection.body_timeout

    @property
    def deadline(self) -> float:
        """The loop time after which the connection's sweep calls `expire`."""
        return min(self._caller_deadline, self._message_deadline, self._stall_deadline)

    @property
    def send_window(self) -> int:
        """Bytes that the client takes now; may be negative."""
        return self._connection.initial_send_window + self.granted

    # What the client sends.

    def receive(self, payload: bytes, size: int, ends: bool) -> None:
        """Take the payload of a frame of data, which has `size` bytes with its padding. Hot."""
        if self._has_ended:
            self.break_off(frames.Fault.STREAM_CLOSED)
            return
        direct = self._direct
        if ends and direct is not None and self._reader is None:
            length = len(payload) - PREFIX_SIZE
            most = self._connection.reception.message
            # All of a message that is neither compressed nor too large.
            if 0 <= length <= most and payload.startswith(frames.PREFIX.pack(0, length)):
                self._has_ended = True
                self._message_deadline = NEVER
                self._answer_directly(direct, payload[PREFIX_SIZE:])
                return
        reader = self._messages()
        try:
            reader.receive(payload, size)
            if ends:
                self.end()
            elif reader.is_stream:
                self._received_part()
        except Refused as refused:
            self._refuse(refused)

    def _messages(self) -> MessageReader:
        reader = self._reader
        if reader is None:
            reader = self._reader = MessageReader(
                self._connection.reception,
                self._head.encoding,
                self._handler.request_streaming,
                self._allow,
                self._refuse,
            )
        return reader

    def end(self) -> None:
        """The client sends nothing more.

        Raises:
            Refused: it has not sent what it should have.
        """
        self._has_ended = True
        self._message_deadline = NEVER
        reader = self._messages()
        if reader.is_within:
            raise Refused(grpc.StatusCode.INTERNAL, "the call ends in the middle of a message")
        if reader.is_stream:
            self._wake()
        elif not reader.messages:
            raise Refused(grpc.StatusCode.INTERNAL, "the call has no message")
        elif (direct := self._direct) and (message := reader.take_plain()) is not None:
            self._answer_directly(direct, message)
        else:
            self.answering = self._connection.start(self._serve())

    def end_by_fields(self) -> None:
        """The client ends the call with fields, of which gRPC has none."""
        if self._has_ended:
            self.break_off(frames.Fault.STREAM_CLOSED)
            return
        try:
            self.end()
        except Refused as refused:
            self._refuse(refused)

    def _received_part(self) -> None:
        reader = self._messages()
        if reader.messages:
            self._wake()
        if not reader.is_within:
            self._message_deadline = NEVER
        elif self._message_deadline is NEVER:
            connection = self._connection
            self._message_deadline = connection.loop.time() + connection.body_timeout

    def _refuse(self, refused: Refused) -> None:
        self._finish_refused(refused)
        self._stop_answering()

    def _finish_refused(self, refused: Refused) -> None:
        if refused.metadata is not None:
            self._trailers = refused.metadata
        self.finish(refused.code, refused.details)

    def _allow(self, size: int) -> None:
        self._connection.write(frames.window_update(self.number, size))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _each(self) -> AsyncIterator[Any]:
        reader = self._messages()
        while True:
            while not reader.messages:
                if self._has_ended:
                    return
                reader.read_on()
                self._waiter = self._connection.loop.create_future()
                await self._waiter
            yield await self._next()

    async def _next(self) -> Any:
        message = await self._messages().take()
        parse = self._handler.request_deserializer
        return message if parse is None else parse(message)

    # How the call ends.

    def cancel(self) -> None:
        """End the call, whose caller has left."""
        self._close()
        self._stop_answering()

    def break_off(self, fault: frames.Fault) -> None:
        """End the call, whose client breaks the protocol."""
        self._connection.write(frames.reset(self.number, fault))
        self.cancel()

    def expire(self, now: float) -> None:
        """End the call, whose deadline has passed."""
        if now >= self._caller_deadline:
            why = "Deadline Exceeded"
        elif now >= self._stall_deadline:
            why = "the client does not read the answer (--body-timeout)"
        elif self._reader is not None and self._reader.has_waited:
            self._refuse(overloaded(self._connection.reception.budget.error()))
            return
        else:
            why = "the message did not arrive in time (--body-timeout)"
        self.unsent.clear()
        self._last = None
        self.finish(grpc.StatusCode.DEADLINE_EXCEEDED, why)
        self._stop_answering()

    def _stop_answering(self) -> None:
        if self.answering is not None:
            self.answering.cancel()

    def _close(self) -> None:
        if not self.is_open:
            return
        self.is_open = False
        self.unsent.clear()
        if self._reader is not None:
            self._reader.release()
        self._connection.forget(self)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # The handler.

    def _answer_directly(self, direct: Direct, message: bytes) -> None:
        try:
            self.answering = direct(message, self)
        except Exception as exc:
            self.fail(exc)

    async def _serve(self) -> None:
        try:
            await self._handle()
        except Exception as exc:
            self.fail(exc)

    async def _handle(self) -> None:
        handler = self._handler
        try:
            if not handler.response_streaming:
                self.answer(await handler.unary_unary(await self._next(), self))
                return
            if handler.request_streaming:
                answers = handler.stream_stream(self._each(), self)
            else:
                answers = handler.unary_stream(await self._next(), self)
            if hasattr(answers, "__aiter__"):
                async for answer in answers:
                    await self.write(answer)
            else:
                await answers
            self.finish(grpc.StatusCode.OK)
        except Refused as refused:
            self._finish_refused(refused)
        except asyncio.CancelledError:
            self.give_up()

    # What a direct handler may do.

    @property
    def headers(self) -> Mapping[str, str | bytes]:
        """The metadata that the client has sent, by name."""
        return self._head.headers

    def fail(self, exc: Exception) -> None:
        """End the call after a failure of the server's own."""
        logger.error("a call failed; this is a bug", exc_info=exc)
        # They may be what cannot be sent.
        self._trailers = ()
        self.finish(grpc.StatusCode.INTERNAL, "the server failed on this call")

    def give_up(self) -> None:
        """End the call, because what would answer it was cancelled."""
        if self._connection.is_leaving:
            # Callers may try again elsewhere.
            self.finish(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        else:
            self.finish(grpc.StatusCode.CANCELLED, "the call was cancelled")

    def begin(self, metadata: Sent) -> None:
        """Send the first fields of the answer, unless they are sent."""
        if self.is_open and not self._has_begun:
            self._begin(metadata)

    def answer(self, message: Any) -> None:
        """Send the only answer."""
        try:
            self._answer(self._encoded(message))
        except Refused as refused:
            self._finish_refused(refused)

    # What any handler may do.

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._head.metadata

    def peer(self) -> str:
        return self._connection.peer

    def time_remaining(self) -> float | None:
        if self._caller_deadline is NEVER:
            return None
        return max(0.0, self._caller_deadline - self._connection.loop.time())

    def set_trailing_metadata(self, metadata: Sent) -> None:
        self._trailers = metadata

    async def send_initial_metadata(self, metadata: Sent) -> None:
        self.begin(metadata)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Sent | None = None
    ) -> NoReturn:
        raise Refused(code, details, trailing_metadata)

    async def write(self, message: Any) -> None:
        """Send a message, and wait until the client is ready for another."""
        encoded = self._encoded(message)
        if not self.is_open:
            return
        if not self._has_begun:
            self._begin()
        self._send(encoded)
        if self.unsent or self._connection.is_paused:
            self._drained = self._connection.loop.create_future()
            self._connection.wait_for_room(self)
            await self._drained

    def _encoded(self, message: Any) -> bytes:
        serialize = self._handler.response_serializer
        encoded: bytes = message if serialize is None else serialize(message)
        if len(encoded) > LARGEST_ANSWER:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the answer has {len(encoded)} bytes, a message at most {LARGEST_ANSWER}",
            )
        return encoded

    # What is sent.

    def _begin(self, metadata: Sent = ()) -> None:
        self._has_begun = True
        block = frames.ANSWER + literals(metadata)
        self._connection.write_fields(self.number, block, 0)

    def _answer(self, encoded: bytes) -> None:
        """Send the only answer. Hot."""
        if not self.is_open:
            return
        connection = self._connection
        size = PREFIX_SIZE + len(encoded)
        if (
            self._has_begun
            or connection.notice
            or size > frames.MAX_FRAME
            or size > connection.initial_send_window + self.granted
            or size > connection.send_window
        ):
            if not self._has_begun:
                self._begin()
            self._send(encoded)
            self.finish(grpc.StatusCode.OK)
            return
        number = self.number
        last = frames.headers(number, _OK + literals(self._trailers), frames.END_STREAM)
        connection.send_window -= size
        first = (_ANSWER, frames.END_HEADERS, number, frames.ANSWER)
        connection.write(
            _BEGIN.pack(*first, size << 8 | frames.DATA, 0, number, 0, len(encoded)),
            encoded,
            last,
        )
        self._close_sent()

    def _send(self, message: bytes) -> None:
        self.unsent.append(memoryview(frames.PREFIX.pack(0, len(message))))
        if message:
            self.unsent.append(memoryview(message))
        self._connection.send(self)

    def finish(self, code: grpc.StatusCode, details: str = "") -> None:
        """End the answer with a status, after what is unsent."""
        if not self.is_open or self._last is not None:
            return
        block = frames.status(code.value[0], details) + literals(self._trailers)
        self._last = block if self._has_begun else frames.ANSWER + block
        self._has_begun = True
        if not self.unsent:
            self.sent()

    def sent(self) -> None:
        """Nothing is unsent any more."""
        if self._last is not None:
            self._connection.write_fields(self.number, self._last, frames.END_STREAM)
            self._close_sent()

    def stalls(self) -> None:
        """The client does not take what is unsent."""
        if self._stall_deadline is NEVER:
            connection = self._connection
            self._stall_deadline = connection.loop.time() + connection.body_timeout

    def progresses(self) -> None:
        """The client takes some of what is unsent."""
        self._stall_deadline = NEVER

    def has_room(self) -> None:
        """The client is ready for another message."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _close_sent(self) -> None:
        if not self._has_ended:
            # The client need not send the rest.
            self._connection.write(frames.reset(self.number, frames.Fault.NO_ERROR))
        self._close()
