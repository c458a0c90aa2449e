"""How every RPC runs: its id, its deadline, its errors, and who is in flight."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from itertools import count
from secrets import token_hex
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from headrace.errors import Cancelled, HeadraceError, InvalidInput, ShuttingDown
from headrace.grpc.errors import details, error_metadata, row

logger = logging.getLogger("headrace.grpc")

REQUEST_ID = re.compile(r"[\x21-\x7e]{1,256}")


class Rpc:
    """One RPC: its request id, and the time its caller gives it."""

    __slots__ = ("context", "request_id")

    def __init__(self, context: Any, request_id: str) -> None:
        self.context = context
        self.request_id = request_id

    def timeout(self) -> float | None:
        """Seconds left until the caller's deadline; None when it set none."""
        remaining: float | None = self.context.time_remaining()
        return remaining


Method = Callable[[Any, Rpc], Awaitable[Any]]
StreamMethod = Callable[[Any, Rpc], AsyncGenerator[Any, None]]


class CallRunner:
    """Wraps methods over messages into the behaviours of a grpc.aio server, bytes to bytes.

    `in_flight` holds a future for each request being answered. A stream is in flight only while
    it answers, so that an idle one does not hold up a drain. `pushback` tells clients with a retry
    policy how long to wait.
    """

    def __init__(self, pushback: bool = True) -> None:
        self.in_flight: set[asyncio.Future[Any]] = set()
        self._streams: set[asyncio.Task[Any]] = set()
        self._cut = False
        self._pushback = pushback
        self._prefix = token_hex(4)
        self._ids = count(1)

    def unary(self, kind: Any, method: Method) -> Callable[[bytes, Any], Awaitable[bytes]]:
        """The behaviour of a method that answers one message with one."""

        async def behave(body: bytes, context: Any) -> bytes:
            rpc = self._begin(context)
            task = asyncio.current_task()
            assert task is not None
            # The task also sends the answer, after this function has returned it.
            self.in_flight.add(task)
            task.add_done_callback(self.in_flight.discard)
            try:
                answer = await method(_parse(kind, body), rpc)
                encoded: bytes = answer.SerializeToString()
            except asyncio.CancelledError:
                _log_leaving(rpc)
                raise
            except Exception as exc:
                await self._refuse(rpc, exc)
            return encoded

        return behave

    def stream(
        self, kind: Any, method: StreamMethod
    ) -> Callable[[AsyncIterator[bytes], Any], Awaitable[None]]:
        """The behaviour of a method that answers each message of a stream with any number."""

        async def behave(bodies: AsyncIterator[bytes], context: Any) -> None:
            rpc = self._begin(context)
            try:
                with self.streaming():
                    async for body in bodies:
                        await self._answer(method(_parse(kind, body), rpc), context)
            except asyncio.CancelledError:
                if not self._cut:
                    _log_leaving(rpc)
                    raise
                await self._refuse(rpc, ShuttingDown("the server stops"))
            except Exception as exc:
                await self._refuse(rpc, exc)

        return behave

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Let `cut` end the current task, which may wait for its caller without end."""
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            yield
        finally:
            self._streams.discard(task)

    def cut(self) -> None:
        """Cancel all that still runs; streams are told that the server stops."""
        self._cut = True
        for running in self._streams | self.in_flight:
            running.cancel()

    async def _answer(self, answers: AsyncGenerator[Any, None], context: Any) -> None:
        """Send the answers to one request of a stream."""
        answered = asyncio.get_running_loop().create_future()
        self.in_flight.add(answered)
        try:
            async with aclosing(answers):
                async for answer in answers:
                    await context.write(answer.SerializeToString())
        finally:
            answered.cancel()
            self.in_flight.discard(answered)

    def _begin(self, context: Any) -> Rpc:
        given = dict(context.invocation_metadata()).get("x-request-id")
        if not isinstance(given, str) or not REQUEST_ID.fullmatch(given):
            given = f"{self._prefix}-{next(self._ids):x}"
        context.set_trailing_metadata((("x-request-id", given),))
        return Rpc(context, given)

    async def _refuse(self, rpc: Rpc, exc: Exception) -> NoReturn:
        """End an RPC with the status of an error, which is logged under the request's id."""
        extra: dict[str, Any] = {"request_id": rpc.request_id}
        if isinstance(exc, HeadraceError):
            error = exc
        else:
            logger.error("a request failed; this is a bug", exc_info=exc, extra=extra)
            error = HeadraceError("the server failed on this request; its log has the details")
        code = row(error).code
        severe = code is grpc.StatusCode.INTERNAL
        level = logging.ERROR if severe else logging.INFO
        if isinstance(error, Cancelled):
            level = logging.DEBUG
        extra |= {"status": code.name, "kind": error.kind}
        logger.log(level, "%s", error.message, extra=extra)
        metadata = (("x-request-id", rpc.request_id), *error_metadata(error, self._pushback))
        await rpc.context.abort(code, details(error), metadata)
        raise AssertionError("abort always raises")


def _parse(kind: Any, body: bytes) -> Any:
    try:
        return kind.FromString(body)
    except DecodeError:
        raise InvalidInput(f"the request is not a valid {kind.DESCRIPTOR.name} message") from None


def _log_leaving(rpc: Rpc) -> None:
    extra = {"request_id": rpc.request_id, "status": grpc.StatusCode.CANCELLED.name}
    logger.debug("the call was cancelled", extra=extra)
