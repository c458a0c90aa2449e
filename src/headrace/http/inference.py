"""Inference over HTTP: one conversation, driven by connections directly or through ASGI. Hot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any, NamedTuple

from headrace.adapters.adapter import HeaderList, Headers, HttpRequest, Reply
from headrace.dataplane import (
    Call,
    Calls,
    DataPlane,
    as_error,
    seconds_given,
)
from headrace.errors import Cancelled
from headrace.http import header_fields
from headrace.http.body import COMPRESS_IN_THREAD, compress, read_body
from headrace.http.cycle import REFUSED, WITHOUT_BODY
from headrace.http.events import Events
from headrace.http.refusals import collect, refusal
from headrace.http.router import RouteMatch, Router
from headrace.protocol.messages import InferenceRequest, InferenceResponse

Scope = dict[str, Any]
Answer = Callable[[int, HeaderList, bytes], None]


# What nginx logs for a client that closed its connection before the answer.
CLIENT_CLOSED_REQUEST = 499
# In the scope of a request whose caller left, where the connection is another server's.
LEFT = "headrace.left"


class Decoded(NamedTuple):
    """A request that is ready for its model, and all that its answer needs.

    `shown` is the id that the answer's body has, `accepted` the encodings its caller takes.
    """

    call: Call
    match: RouteMatch
    model: Any
    request: InferenceRequest
    timeout: float | None
    context: Any
    shown: str
    accepted: bytes | None


class InferenceRoutes:
    """Answers every route that a protocol declared.

    `__call__` is the ASGI application. `direct` does the same without a task, for connections
    that hold a whole small request in memory already. Both decode by `_decode`, answer by
    `_reply` and refuse by `_refusal`; what must hold for every answer is decided there.
    """

    def __init__(
        self, dataplane: DataPlane, calls: Calls, router: Router, max_body_size: int
    ) -> None:
        self._dataplane = dataplane
        self._calls = calls
        self._limit = max_body_size
        self.match = router.match_direct

    async def __call__(self, scope: Scope, receive: Any, send: Any, match: RouteMatch) -> None:
        headers = collect(scope["headers"])
        call = self._begin(scope, headers, match)
        try:
            self._calls.admit(call)
            body = await read_body(headers, receive, self._limit)
            request = HttpRequest(headers, body, scope)
            if match.adapter.wants_stream(match.route, body):
                await self._stream(call, match, request, send)
                return
            decoded = self._decode(call, match, request)
            response = await _settled(scope, receive, self._submit(decoded))
            reply = self._reply(decoded, response)
            if decoded.accepted is not None:
                reply = await _compressed(decoded.accepted, reply)
        except (Cancelled, asyncio.CancelledError) as exc:
            # A connection that gave up on the body has refused the request itself.
            if REFUSED not in scope:
                self._calls.left(call, CLIENT_CLOSED_REQUEST)
            if isinstance(exc, asyncio.CancelledError) and not _has_left(scope):
                raise
            return
        except Exception as exc:
            reply = self._refusal(call, match, exc)
        if _has_left(scope):
            self._calls.left(call, CLIENT_CLOSED_REQUEST)
            return
        # A call that was refused has ended already.
        self._calls.answered(call, reply.status, len(reply.body))
        await send_reply(send, reply)

    def needs_task(self, match: RouteMatch, body: bytes) -> bool:
        """Whether the answer is to be streamed, which takes a task."""
        return match.route.may_stream and match.adapter.wants_stream(match.route, body)

    def direct(
        self, connection: Any, match: RouteMatch, body: bytes, answer: Answer
    ) -> asyncio.Future[Any] | None:
        """Take a request that has arrived whole; `answer` is called once, now or later. Hot.

        Returns the future of the request in flight, or None when it is answered already.
        """
        scope = connection.scope
        headers = collect(scope["headers"])
        call = self._begin(scope, headers, match)
        try:
            self._calls.admit(call)
            decoded = self._decode(call, match, HttpRequest(headers, body, scope))
            future = self._submit(decoded)
        except Exception as exc:
            answer(*self._refusal(call, match, exc))
            return None
        connection.on_disconnect = future.cancel
        future.add_done_callback(partial(self._on_done, connection, decoded, answer))
        return future

    def _on_done(
        self,
        connection: Any,
        decoded: Decoded,
        answer: Answer,
        future: asyncio.Future[InferenceResponse],
    ) -> None:
        try:
            reply = self._reply(decoded, future.result())
            if decoded.accepted is not None and _is_compressible(reply):
                if len(reply.body) >= COMPRESS_IN_THREAD:
                    task = asyncio.ensure_future(_compressed(decoded.accepted, reply))
                    connection.goes_on(future, task)
                    done = partial(self._on_compressed, connection, decoded, answer)
                    task.add_done_callback(done)
                    return
                reply = _compress(decoded.accepted, reply)
        except asyncio.CancelledError:
            connection.settled(future)
            self._calls.left(decoded.call, CLIENT_CLOSED_REQUEST)
            return
        except Exception as exc:
            reply = self._refusal(decoded.call, decoded.match, exc)
        connection.settled(future)
        # A call that was refused has ended already.
        self._calls.answered(decoded.call, reply.status, len(reply.body))
        answer(*reply)

    def _on_compressed(
        self, connection: Any, decoded: Decoded, answer: Answer, task: asyncio.Task[Reply]
    ) -> None:
        connection.settled(task)
        if task.cancelled() or connection.transport.is_closing():
            self._calls.left(decoded.call, CLIENT_CLOSED_REQUEST)
            return
        try:
            reply = task.result()
        except Exception as exc:
            reply = self._refusal(decoded.call, decoded.match, exc)
        self._calls.answered(decoded.call, reply.status, len(reply.body))
        answer(*reply)

    async def _stream(self, call: Call, match: RouteMatch, request: HttpRequest, send: Any) -> None:
        """Answer with server-sent events, one for each piece.

        What goes wrong before the first piece is an ordinary error; after it, an event, and the
        answer ends.
        """
        adapter = match.adapter
        events = Events(send, call.caller.request_id.encode())
        decoded = self._decode(call, match, request)
        model = decoded.model
        pieces = self._calls.stream(call, model, decoded.request, decoded.timeout)
        with _withdrawn_with_caller(request.scope):
            try:
                async with aclosing(pieces):
                    async for piece in pieces:
                        if model.model_metadata.takes_headers:
                            piece, fields = header_fields.taken(piece, model.name)
                            events.add_headers(fields)
                        text = adapter.event(model, piece, decoded.shown, decoded.context)
                        await events.send(text)
            except Exception as exc:
                if not events.started or isinstance(exc, Cancelled):
                    raise
                error = as_error(exc, call.caller.request_id)
                status, body = adapter.error(error)
                await events.send(adapter.error_event(body))
                await events.end()
                self._calls.refused(call, error, status, events.sent)
            else:
                if adapter.last_event:
                    await events.send(adapter.last_event)
                await events.end()
                self._calls.answered(call, 200, events.sent)

    def _begin(self, scope: Any, headers: Headers, match: RouteMatch) -> Call:
        given = headers.get(b"x-request-id")
        id = None if given is None else given.decode("latin-1")
        peer = scope.get("client")
        return self._calls.begin(match.adapter.name, match.route.path, id, peer, headers)

    def _decode(self, call: Call, match: RouteMatch, request: HttpRequest) -> Decoded:
        """Find the model and decode the request.

        Raises:
            HeadraceError: the request is refused.
        """
        adapter, headers = match.adapter, request.headers
        call.received = len(request.body)
        name, version = adapter.select(match.name, match.version, request)
        model = self._dataplane.find(name, version, adapter)
        # Known from here on, for a request that does not decode is a failure of this model's.
        call.model = model
        decoded, context = adapter.decode(request, model)
        id = call.caller.request_id
        shown = decoded.id or id
        # A failure is logged by this process and by the worker, both under the request's id.
        decoded.id = id
        if model.model_metadata.takes_headers and decoded.context is None:
            decoded.context = header_fields.request_context(headers)
        given = headers.get(b"x-request-timeout")
        timeout = seconds_given(given.decode("latin-1")) if given else None
        accepted = headers.get(b"accept-encoding")
        return Decoded(call, match, model, decoded, timeout, context, shown, accepted)

    def _submit(self, decoded: Decoded) -> asyncio.Future[InferenceResponse]:
        return self._calls.submit(decoded.call, decoded.model, decoded.request, decoded.timeout)

    def _reply(self, decoded: Decoded, response: InferenceResponse) -> Reply:
        """The answer of a model, with all headers but those of its framing.

        Raises:
            BadModelOutput: it cannot be told in the request's protocol.
        """
        model = decoded.model
        added: HeaderList = []
        if model.model_metadata.takes_headers:
            response, added = header_fields.taken(response, model.name)
        adapter = decoded.match.adapter
        status, fields, body = adapter.encode(model, response, decoded.shown, decoded.context)
        id = decoded.call.caller.request_id.encode()
        return Reply(status, [*fields, *added, (b"x-request-id", id)], body)

    def _refusal(self, call: Call, match: RouteMatch, exc: Exception) -> Reply:
        """The answer to a call that is refused, or that failed."""
        return refusal(self._calls, call, exc, match.adapter.error)


@contextmanager
def _withdrawn_with_caller(scope: Any) -> Iterator[None]:
    """Cancel the current task when its caller leaves meanwhile."""
    connection = scope.get("headrace.connection")
    task = asyncio.current_task()
    if connection is None or task is None:
        yield
        return
    connection.on_disconnect = task.cancel
    try:
        yield
    finally:
        connection.on_disconnect = None


async def _settled(
    scope: Scope, receive: Any, future: asyncio.Future[InferenceResponse]
) -> InferenceResponse:
    """The answer of a model; a caller who leaves withdraws the request."""
    connection = scope.get("headrace.connection")
    if connection is None:
        # Another server's connection: all that can come after the body is that the caller left.
        watching = asyncio.ensure_future(receive())
        watching.add_done_callback(partial(_on_left, scope, future))
        try:
            return await future
        finally:
            watching.cancel()
    connection.on_disconnect = future.cancel
    try:
        return await future
    finally:
        connection.on_disconnect = None


def _on_left(scope: Scope, future: asyncio.Future[Any], watching: asyncio.Future[Any]) -> None:
    if not watching.cancelled() and watching.exception() is None and not future.done():
        scope[LEFT] = True
        future.cancel()


async def send_reply(send: Any, reply: Reply) -> None:
    """Send a whole answer over ASGI."""
    status, fields, body = reply
    if status not in WITHOUT_BODY:
        fields = [*fields, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def _is_compressible(reply: Reply) -> bool:
    return not any(name == b"content-encoding" for name, _ in reply.headers)


async def _compressed(accepted: bytes, reply: Reply) -> Reply:
    """The reply in an encoding its caller takes; large ones hold up nobody else."""
    if not _is_compressible(reply):
        return reply
    if len(reply.body) < COMPRESS_IN_THREAD:
        return _compress(accepted, reply)
    return await asyncio.to_thread(_compress, accepted, reply)


def _compress(accepted: bytes, reply: Reply) -> Reply:
    status, fields, body = reply
    body, encoding = compress(body, accepted)
    if encoding is None:
        return reply
    added = [(b"content-encoding", encoding.encode()), (b"vary", b"accept-encoding")]
    return Reply(status, [*fields, *added], body)


def _has_left(scope: Scope) -> bool:
    connection = scope.get("headrace.connection")
    if connection is None:
        return LEFT in scope
    closing: bool = connection.transport.is_closing()
    return closing
