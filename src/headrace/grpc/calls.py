"""How every RPC runs: its id, its deadline, its errors, and what is in flight."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
)
from contextlib import aclosing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import grpc
from google.protobuf.message import DecodeError

from headrace.access.needs import Needs
from headrace.dataplane import Call, Calls, as_error
from headrace.errors import HeadraceError, InvalidInput, ShuttingDown, TooLarge
from headrace.grpc import call_metadata
from headrace.grpc.direct_handler import Direct
from headrace.grpc.status_codes import Metadata, details, error_metadata, row
from headrace.grpc.stream_forms import StreamForm
from headrace.grpc.stream_order import StreamOrder, Turn, Write
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.counts import COUNTS, Counts
from headrace.protocol.open_inference.packed_numbers import NO_NUMBERS, set_aside

if TYPE_CHECKING:
    from headrace.grpc.http2_stream import Stream

PROTOCOL = "open_inference_grpc"
# Looked up once, because an enumeration's `name` is slow.
OK = grpc.StatusCode.OK.name
STOPPING = "the server is stopping"
# Bytes of a message from which on what it has is counted before it is parsed.
LARGE = 256 * 1024
# Bytes of the largest message that infers nothing, as of the bodies of such requests over HTTP.
LARGEST_OTHER = 256 * 1024


class RpcCall(Call):
    """A call over gRPC, with its message once a model is looked for."""

    message: Any = None

    def member(self, path: str) -> str | None:
        """A parameter of the message; the rest of it has no names that JSON bodies share."""
        head, _, name = path.partition(".")
        if head != "parameters" or self.message is None or name not in self.message.parameters:
            return None
        parameter = self.message.parameters[name]
        choice = parameter.WhichOneof("parameter_choice")
        return None if choice is None else str(getattr(parameter, choice))


class Rpc:
    """One message of one RPC as a call, and the time its caller allows for it.

    `form` is how a stream is answered, which its first message decides. `turn` is the place of the
    message, if others of its stream are answered at the same time. `decoded` is for what
    a `DirectMethod` has to know again when it ends. `numbers` are set aside from the message.
    """

    __slots__ = ("call", "context", "decoded", "form", "numbers", "turn")

    def __init__(self, context: Any, call: RpcCall, form: StreamForm | None = None) -> None:
        self.context = context
        self.call = call
        self.form = form
        self.decoded: Any = None
        self.numbers = NO_NUMBERS
        self.turn: Turn | None = None

    @property
    def request_id(self) -> str:
        return self.call.request_id

    def next_message(self) -> Rpc:
        """The next message of the same stream, as a call of its own."""
        call = self.call
        again = RpcCall(call.protocol, call.route, call.request_id, call.peer, call.headers)
        again.is_message = True
        again.needs = call.needs
        return Rpc(self.context, again, self.form)

    def answer_as_they_come(self) -> None:
        """Send the answers to this message without waiting for those to earlier ones."""
        if self.turn is not None:
            self.turn.leave_order()

    def timeout(self) -> float | None:
        """Seconds left until the caller's deadline; None when it set none."""
        remaining: float | None = self.context.time_remaining()
        return remaining


Method = Callable[[Any, Rpc], Awaitable[Any]]
FormOf = Callable[[Mapping[Any, Any], Any], StreamForm]
StreamMethod = Callable[[Any, Rpc], AsyncGenerator[Any, None]]


class DirectMethod(Protocol):
    """A unary method in two parts; nothing of it runs between them."""

    def begin(self, body: bytes, rpc: Rpc) -> asyncio.Future[Any]:
        """What `end` needs, or the encoded answer itself.

        Raises:
            Exception: why there is no answer.
        """

    def end(self, rpc: Rpc, result: Any) -> bytes | Coroutine[Any, Any, bytes]:
        """The encoded answer, now or from a task.

        Raises:
            Exception: why there is no answer.
        """


class CallRunner:
    """Wraps methods over messages into the behaviours of a grpc.aio server, which work on bytes.

    `in_flight` holds a future for each request being answered. A stream is in flight only while
    it answers, so that an idle one does not hold up a drain.
    """

    def __init__(self, calls: Calls, counts: Counts = COUNTS) -> None:
        self._calls = calls
        self._counts = counts
        self.in_flight: set[asyncio.Future[Any]] = set()
        self._streams: set[asyncio.Task[Any]] = set()
        self._cut = False

    def unary(
        self, name: str, needs: Needs, kind: Any, method: Method
    ) -> Callable[[bytes, Any], Awaitable[bytes]]:
        """The behaviour of a method that answers one message with one."""

        async def behave(body: bytes, context: Any) -> bytes:
            rpc = self._begin(name, needs, context)
            task = asyncio.current_task()
            assert task is not None
            # The task also sends the answer, after this function has returned it.
            self.in_flight.add(task)
            task.add_done_callback(self.in_flight.discard)
            try:
                message = await self._take(kind, body, rpc)
                # The message has all of it, and the call may take long.
                del body
                answer = await method(message, rpc)
                encoded: bytes = answer.SerializeToString()
            except asyncio.CancelledError:
                self._calls.left(rpc.call, grpc.StatusCode.CANCELLED.name)
                raise
            except Exception as exc:
                await self._refuse(rpc, exc)
            self._calls.answered(rpc.call, OK, len(encoded))
            return encoded

        return behave

    def direct(self, name: str, needs: Needs, method: DirectMethod) -> Direct:
        """The behaviour of a method that mostly needs no task."""

        def behave(body: bytes, stream: Stream) -> asyncio.Future[Any] | None:
            headers = stream.headers
            id = self._request_id(headers)
            stream.set_trailing_metadata((("x-request-id", id),))
            rpc = Rpc(stream, RpcCall(PROTOCOL, name, id, stream.peer(), headers))
            rpc.call.needs = needs
            try:
                self._admit(body, rpc)
                future = method.begin(body, rpc)
            except Exception as exc:
                self._refuse_directly(rpc, exc)
                return None
            self._await(future, method, rpc)
            return future

        return behave

    def _await(self, future: asyncio.Future[Any], method: DirectMethod, rpc: Rpc) -> None:
        self.in_flight.add(future)
        future.add_done_callback(partial(self._on_done, method, rpc))

    def _on_done(self, method: DirectMethod, rpc: Rpc, future: asyncio.Future[Any]) -> None:
        """Answer a direct call, now or from one more task. Hot."""
        self.in_flight.discard(future)
        stream = rpc.context
        # A task's error has frames in its traceback that hold the call, and the call would hold it.
        stream.answering = None
        try:
            if future.cancelled() or not stream.is_open:
                self._leave(rpc, future)
                return
            # Not raised: its traceback would hold this frame, and with it the future.
            failure = future.exception()
            if failure is not None:
                self._refuse_directly(rpc, failure)
                return
            try:
                answer = future.result()
                if type(answer) is not bytes:
                    answer = method.end(rpc, answer)
            except Exception as exc:
                self._refuse_directly(rpc, exc)
                return
            if type(answer) is not bytes:
                stream.answering = asyncio.ensure_future(answer)
                self._await(stream.answering, method, rpc)
                return
            self._calls.answered(rpc.call, OK, len(answer))
            stream.answer(answer)
        except Exception as exc:
            stream.fail(exc)

    def _leave(self, rpc: Rpc, future: asyncio.Future[Any]) -> None:
        """End a direct call that nobody waits for, or whose future was cancelled."""
        self._calls.left(rpc.call, grpc.StatusCode.CANCELLED.name)
        if future.cancelled():
            rpc.context.give_up()
        else:
            # So that it is not logged as an exception that nobody has seen.
            future.exception()

    def _refuse_directly(self, rpc: Rpc, exc: BaseException) -> None:
        code, why, metadata = self._refusal(rpc, exc)
        rpc.context.set_trailing_metadata(metadata)
        rpc.context.finish(code, why)

    def stream(
        self,
        name: str,
        needs: Needs,
        kind: Any,
        method: StreamMethod,
        form_of: FormOf | None = None,
    ) -> Callable[[AsyncIterator[bytes], Any], Awaitable[None]]:
        """The behaviour of a method that answers each message of a stream with several or none.

        Errors end the stream with a status, unless `form_of`, given the metadata and the first
        message, finds a form that makes messages of them.
        """

        async def behave(bodies: AsyncIterator[bytes], context: Any) -> None:
            rpc = self._begin(name, needs, context)
            order = StreamOrder(context.write)
            try:
                self._calls.open(rpc.call)
                with self.streaming():
                    try:
                        async for body in bodies:
                            rpc = rpc.next_message()
                            message, failure = await self._taken(kind, body, form_of, rpc)
                            del body
                            await self._take_turn(message, failure, method, rpc, order)
                        await order.finish()
                    finally:
                        await order.cancel()
            except asyncio.CancelledError:
                if not self._cut:
                    self._calls.left(rpc.call, grpc.StatusCode.CANCELLED.name)
                    raise
                await self._refuse(rpc, ShuttingDown(STOPPING))
            except Exception as exc:
                await self._refuse(rpc, exc)

        return behave

    def foreign(
        self, name: str, needs: Needs, method: Callable[[Any, Any], AsyncGenerator[Any, None]]
    ) -> Callable[[Any, Any], AsyncGenerator[Any, None]]:
        """A streaming method of another library, which gets the messages that are admitted."""

        async def behave(messages: Any, context: Any) -> AsyncGenerator[Any, None]:
            rpc = self._begin(name, needs, context)

            async def admitted() -> AsyncGenerator[Any, None]:
                nonlocal rpc
                async for message in messages:
                    rpc = rpc.next_message()
                    self._calls.admit(rpc.call)
                    yield message

            try:
                self._calls.open(rpc.call)
                async with aclosing(method(admitted(), context)) as answers:
                    async for answer in answers:
                        yield answer
            except HeadraceError as error:
                await self._refuse(rpc, error)

        return behave

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Let `cut` end the current task, which may wait for its caller indefinitely."""
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            yield
        finally:
            self._streams.discard(task)

    def cut(self) -> None:
        """Cancel everything that is still running; streams are refused with `ShuttingDown`."""
        self._cut = True
        for running in self._streams | self.in_flight:
            running.cancel()

    async def _taken(
        self, kind: Any, body: bytes, form_of: FormOf | None, rpc: Rpc
    ) -> tuple[Any, Exception | None]:
        """A message of a stream, or the error if it has none; the first one decides the form."""
        message: Any = None
        try:
            message = await self._take(kind, body, rpc)
            if rpc.form is None and form_of is not None:
                rpc.form = form_of(rpc.call.headers, message)
        except Exception as exc:
            return message, exc
        return message, None

    async def _take_turn(
        self,
        message: Any,
        failure: Exception | None,
        method: StreamMethod,
        rpc: Rpc,
        order: StreamOrder,
    ) -> None:
        """Answer a message, or begin to: a stream that goes on after errors does not wait."""
        if rpc.form is not None and rpc.form.survives_errors:
            await order.begin(partial(self._turn, method, message, failure, rpc))
        elif failure is not None:
            raise failure
        else:
            await self._answer(method(message, rpc), rpc, rpc.context.write)

    async def _turn(
        self, method: StreamMethod, message: Any, failure: Exception | None, rpc: Rpc, turn: Turn
    ) -> None:
        """Answer one of the requests of a stream that goes on after errors."""
        rpc.turn = turn
        try:
            if failure is not None:
                raise failure
            await self._answer(method(message, rpc), rpc, turn.write)
        except asyncio.CancelledError:
            if self._cut:
                stopping = ShuttingDown(STOPPING)
                self._calls.refused(rpc.call, stopping, row(stopping).code.name, 0)
            else:
                self._calls.left(rpc.call, grpc.StatusCode.CANCELLED.name)
            raise
        except Exception as exc:
            error = as_error(exc, rpc.request_id)
            assert rpc.form is not None, "it says that the stream goes on"
            encoded = rpc.form.error(error, message).SerializeToString()
            rpc.call.messages += 1
            self._calls.refused(rpc.call, error, row(error).code.name, len(encoded))
            await turn.write(encoded)

    async def _answer(self, answers: AsyncGenerator[Any, None], rpc: Rpc, write: Write) -> None:
        """Send the answers to one request of a stream."""
        sent = 0
        answered = asyncio.get_running_loop().create_future()
        self.in_flight.add(answered)
        try:
            async with aclosing(answers):
                async for answer in answers:
                    encoded = answer.SerializeToString()
                    sent += len(encoded)
                    rpc.call.messages += 1
                    await write(encoded)
            self._calls.answered(rpc.call, OK, sent)
        finally:
            answered.cancel()
            self.in_flight.discard(answered)

    def _begin(self, name: str, needs: Needs, context: Any) -> Rpc:
        metadata = call_metadata.collect(context.invocation_metadata())
        id = self._request_id(metadata)
        context.set_trailing_metadata((("x-request-id", id),))
        call = RpcCall(PROTOCOL, name, id, context.peer(), metadata)
        call.needs = needs
        return Rpc(context, call)

    def _request_id(self, metadata: Mapping[str, str | bytes]) -> str:
        given = metadata.get("x-request-id")
        return self._calls.request_id(given if isinstance(given, str) else None)

    def _admit(self, body: bytes, rpc: Rpc) -> None:
        rpc.call.received = len(body)
        self._calls.admit(rpc.call)

    async def _take(self, kind: Any, body: bytes, rpc: Rpc) -> Any:
        """The message of a call, once the call is admitted."""
        self._admit(body, rpc)
        return await self.parse(kind, body, rpc)

    async def parse(self, kind: Any, body: bytes, rpc: Rpc) -> Any:
        """The message of a call; what a large one has is counted first, and its numbers set aside.

        Raises:
            InvalidInput: the bytes are none.
            TooLarge: it has more of something than is allowed, or infers nothing and is large.
        """
        if kind is not pb.ModelInferRequest:
            if len(body) > LARGEST_OTHER:
                raise TooLarge(
                    f"the {kind.DESCRIPTOR.name} message has {len(body)} bytes, at most "
                    f"{LARGEST_OTHER} allowed"
                )
        elif len(body) >= LARGE:
            body, rpc.numbers = await asyncio.to_thread(set_aside, body, self._counts)
        return parse(kind, body)

    async def _refuse(self, rpc: Rpc, exc: Exception) -> NoReturn:
        """End an RPC with the status of an error."""
        await rpc.context.abort(*self._refusal(rpc, exc))
        raise AssertionError("abort always raises")

    def _refusal(self, rpc: Rpc, exc: BaseException) -> tuple[grpc.StatusCode, str, Metadata]:
        """The status of an error that ends an RPC, its details and its metadata."""
        error = as_error(exc, rpc.request_id)
        code = row(error).code
        self._calls.refused(rpc.call, error, code.name, 0)
        metadata = (("x-request-id", rpc.request_id), *error_metadata(error))
        return code, details(error), metadata


def parse(kind: Any, body: bytes) -> Any:
    """A message of a kind.

    Raises:
        InvalidInput: the bytes are none.
    """
    try:
        return kind.FromString(body)
    except DecodeError:
        raise InvalidInput(f"the request is not a valid {kind.DESCRIPTOR.name} message") from None
