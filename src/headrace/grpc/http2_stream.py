"""One call on an HTTP/2 connection: its handler, its answers and its deadlines."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from headrace.grpc import http2_frames as frames
from headrace.grpc.call_heads import CallHead
from headrace.grpc.message_reader import MessageReader, Refused, Sent

if TYPE_CHECKING:
    from headrace.grpc.http2_connection import Http2Connection

logger = logging.getLogger("headrace.grpc")

NEVER = math.inf
# The first bytes of the frames that begin every answer.
_ANSWER = len(frames.ANSWER) << 8 | frames.HEADERS
_OK = frames.status(0, "")


class Stream:
    """A call. To its handler it is what `grpc.aio.ServicerContext` is."""

    __slots__ = (
        "_caller_deadline",
        "_connection",
        "_drained",
        "_handler",
        "_has_begun",
        "_has_ended",
        "_head",
        "_last",
        "_message_deadline",
        "_reader",
        "_stall_deadline",
        "_task",
        "_trailers",
        "_waiter",
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
        self._head = head
        self._reader = MessageReader(
            connection.reception, head.encoding, handler.request_streaming, self._allow
        )
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
        self._task: asyncio.Task[None] | None = None
        self._caller_deadline = NEVER if head.timeout is None else now + head.timeout
        # When the message being received, and the answer being sent, must have got somewhere.
        self._message_deadline = self._stall_deadline = NEVER
        if handler.request_streaming:
            self._task = connection.start(self._serve())
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
        reader = self._reader
        try:
            reader.receive(payload, size)
            if ends:
                self.end()
            elif reader.is_stream:
                self._received_part()
        except Refused as refused:
            self._refuse(refused)

    def end(self) -> None:
        """The client sends nothing more.

        Raises:
            Refused: it has not sent what it should have.
        """
        self._has_ended = True
        self._message_deadline = NEVER
        reader = self._reader
        if reader.is_within:
            raise Refused(grpc.StatusCode.INTERNAL, "the call ends in the middle of a message")
        if reader.is_stream:
            self._wake()
        elif not reader.messages:
            raise Refused(grpc.StatusCode.INTERNAL, "the call has no message")
        elif self._task is None:
            self._task = self._connection.start(self._serve())

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
        if self._reader.messages:
            self._wake()
        if not self._reader.is_within:
            self._message_deadline = NEVER
        elif self._message_deadline is NEVER:
            connection = self._connection
            self._message_deadline = connection.loop.time() + connection.body_timeout

    def _refuse(self, refused: Refused) -> None:
        self._finish_refused(refused)
        self._cancel_task()

    def _finish_refused(self, refused: Refused) -> None:
        if refused.metadata is not None:
            self._trailers = refused.metadata
        self.finish(refused.code, refused.details)

    def _allow(self, size: int) -> None:
        self._connection.write(frames.window_update(self.number, size))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _messages(self) -> AsyncIterator[Any]:
        reader = self._reader
        while True:
            while not reader.messages:
                if self._has_ended:
                    return
                reader.read_on()
                self._waiter = self._connection.loop.create_future()
                await self._waiter
            yield await self._next()

    async def _next(self) -> Any:
        message = await self._reader.take()
        parse = self._handler.request_deserializer
        return message if parse is None else parse(message)

    # How the call ends.

    def cancel(self) -> None:
        """End the call, whose caller has left."""
        self._close()
        self._cancel_task()

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
        else:
            why = "the message did not arrive in time (--body-timeout)"
        self.unsent.clear()
        self._last = None
        self.finish(grpc.StatusCode.DEADLINE_EXCEEDED, why)
        self._cancel_task()

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _close(self) -> None:
        if not self.is_open:
            return
        self.is_open = False
        self.unsent.clear()
        self._reader.release()
        self._connection.forget(self)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # The handler.

    async def _serve(self) -> None:
        try:
            await self._handle()
        except Exception as exc:
            logger.error("a call failed; this is a bug", exc_info=exc)
            # They may be what cannot be sent.
            self._trailers = ()
            self.finish(grpc.StatusCode.INTERNAL, "the server failed on this call")

    async def _handle(self) -> None:
        handler = self._handler
        try:
            if not handler.response_streaming:
                self._answer(await handler.unary_unary(await self._next(), self))
                return
            if handler.request_streaming:
                answers = handler.stream_stream(self._messages(), self)
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
            if self._connection.is_leaving:
                # Callers may try again elsewhere.
                self.finish(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
            else:
                self.finish(grpc.StatusCode.CANCELLED, "the call was cancelled")

    # What the handler may do.

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
        if self.is_open and not self._has_begun:
            self._begin(metadata)

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
        most = self._connection.reception.message
        if len(encoded) > most:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the answer has {len(encoded)} bytes, more than the {most} of --max-body-size",
            )
        return encoded

    # What is sent.

    def _begin(self, metadata: Sent = ()) -> None:
        self._has_begun = True
        block = frames.ANSWER + frames.fields(metadata)
        self._connection.write_fields(self.number, block, 0)

    def _answer(self, answer: Any) -> None:
        """Send the only answer. Hot."""
        encoded = self._encoded(answer)
        if not self.is_open:
            return
        connection = self._connection
        size = frames.PREFIX.size + len(encoded)
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
        connection.send_window -= size
        number, pack = self.number, frames.HEADER.pack
        trailers = _OK + frames.fields(self._trailers)
        connection.write(
            b"".join(
                (
                    pack(_ANSWER, frames.END_HEADERS, number),
                    frames.ANSWER,
                    pack(size << 8 | frames.DATA, 0, number),
                    frames.PREFIX.pack(0, len(encoded)),
                    encoded,
                    frames.headers(number, trailers, frames.END_STREAM),
                )
            )
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
        block = frames.status(code.value[0], details) + frames.fields(self._trailers)
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
