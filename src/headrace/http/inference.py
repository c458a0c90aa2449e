"""Inference over HTTP, driven by connections directly or through ASGI. Hot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from copy import copy
from functools import partial
from typing import Any, TypeVar

from headrace.adapters.adapter import HeaderList, Headers, Reply
from headrace.dataplane import (
    VERSION_HEADER,
    Calls,
    CanaryCall,
    DataPlane,
    as_error,
    seconds_given,
)
from headrace.decoding.decoder import Decoder
from headrace.errors import Cancelled
from headrace.http import header_fields, large_requests
from headrace.http.body import COMPRESS_IN_THREAD, SOURCE, compress, read_body
from headrace.http.cycle import WITHOUT_BODY
from headrace.http.departure import has_left, settled, withdrawn_with_caller
from headrace.http.events import Events
from headrace.http.header_fields import collect, given_id
from headrace.http.http_call import HttpCall
from headrace.http.large_requests import MUCH_TEXT, has_much_text
from headrace.http.refusals import CALL, refusal
from headrace.http.relay import Relay
from headrace.http.router import RouteMatch, Router
from headrace.protocol import model_call
from headrace.protocol.batch_answer import Part
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.serving.served_model import ServedModel

Scope = dict[str, Any]
# Sends an answer, with the id of its request.
Answer = Callable[[Reply, str], None]


T = TypeVar("T")

# Bytes from which on bodies are decoded, and answers encoded, in a thread.
LARGE = 256 * 1024
# Outputs from which on an answer is encoded in a thread, too.
MANY = 1000
VERSION_FIELD = VERSION_HEADER.encode()
# What nginx logs for a client that closed its connection before the answer.
CLIENT_CLOSED_REQUEST = 499


class InferenceRoutes:
    """Answers every route that an adapter declared.

    `__call__` is the ASGI application. `direct` does the same without a task, for connections
    that already have a whole small request in memory. Both decode with `_decode`, answer with
    `_reply` and refuse with `_refusal`; rules for every answer belong there.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        calls: Calls,
        router: Router,
        decoder: Decoder,
        max_body_size: int,
    ) -> None:
        self._dataplane = dataplane
        self._calls = calls
        self._decoder = decoder
        self._limit = max_body_size
        self.match = router.match_direct

    async def __call__(self, scope: Scope, receive: Any, send: Any, match: RouteMatch) -> None:
        headers = collect(scope["headers"])
        call = HttpCall(match, self._calls.request_id(given_id(headers)), headers, scope)
        scope[CALL] = call
        try:
            await self._answer(call, receive, send)
        finally:
            # Each would hold the other, and with it the body, until the garbage is collected.
            del scope[CALL]
            scope.pop(SOURCE, None)

    async def _answer(self, call: HttpCall, receive: Any, send: Any) -> None:
        match, headers, scope = call.match, call.headers, call.scope
        try:
            self._calls.admit(call)
            call.body = await read_body(headers, receive, self._limit, scope.get(SOURCE))
            call.received = len(call.body)
            if call.received < LARGE:
                self._find(call, *call.selected())
                streams = match.adapter.wants_stream(match.route, call.body)
                if not call.for_canary:
                    self._decode(call)
            else:
                with withdrawn_with_caller(scope, receive):
                    streams = await self._read_aside(call)
            if has_left(scope):
                raise Cancelled("the caller left before the model began")
            if streams and call.adapter.relays:
                relayed = await self._relay(call, receive, send)
                if relayed is None:
                    return
                accepted = headers.get(b"accept-encoding")
                reply = relayed if accepted is None else await _compressed(accepted, relayed)
            elif streams:
                await self._stream(call, receive, send)
                return
            elif call.for_canary:
                task = self._ask_canary(call)
                reply = await settled(scope, receive, task)
            else:
                reply = await self._finish(call, await settled(scope, receive, self._submit(call)))
        except (Cancelled, asyncio.CancelledError) as exc:
            # Unless the connection gave up on the body, and has refused the call itself.
            self._calls.left(call, CLIENT_CLOSED_REQUEST)
            if isinstance(exc, asyncio.CancelledError) and not has_left(scope):
                raise
            return
        except Exception as exc:
            reply = self._refusal(call, exc)
        if has_left(scope):
            self._calls.left(call, CLIENT_CLOSED_REQUEST)
            return
        # A call that was refused has ended already.
        self._calls.answered(call, reply.status, len(reply.body))
        await send_reply(send, reply, call.request_id)

    def needs_task(self, match: RouteMatch, body: bytes) -> bool:
        """Whether the answer is to be streamed, which needs a task."""
        return match.adapter.wants_stream(match.route, body)

    def direct(
        self, connection: Any, match: RouteMatch, headers: Headers, body: bytes, answer: Answer
    ) -> asyncio.Future[Any] | None:
        """Handle a request that has arrived whole; `answer` is called once, now or later. Hot.

        Returns the future of the request in flight, or None if it is already answered.
        """
        id = self._calls.request_id(given_id(headers))
        call = HttpCall(match, id, headers, connection.scope)
        try:
            self._calls.admit(call)
            call.body = body
            call.received = len(body)
            self._find(call, *call.selected())
            if call.for_canary:
                task = self._ask_canary(call)
                connection.on_disconnect = task.cancel
                task.add_done_callback(partial(self._on_finished, connection, call, answer))
                return task
            self._decode(call)
            future = self._submit(call)
        except Exception as exc:
            answer(self._refusal(call, exc), call.request_id)
            return None
        connection.on_disconnect = future.cancel
        future.add_done_callback(partial(self._on_done, connection, call, answer))
        return future

    def _on_done(
        self,
        connection: Any,
        call: HttpCall,
        answer: Answer,
        future: asyncio.Future[InferenceResponse],
    ) -> None:
        try:
            response = future.result()
            rest: Coroutine[Any, Any, Reply] | None = None
            if _is_large(response):
                rest = self._finish(call, response)
            else:
                reply = self._reply(call, response)
                accepted = call.headers.get(b"accept-encoding")
                if accepted is not None and len(reply.body) >= COMPRESS_IN_THREAD:
                    rest = _compressed(accepted, reply)
                elif accepted is not None:
                    reply = _compress(accepted, reply)
            if rest is not None:
                task = asyncio.ensure_future(rest)
                connection.continued(future, task)
                task.add_done_callback(partial(self._on_finished, connection, call, answer))
                return
        except asyncio.CancelledError:
            connection.settled(future)
            self._calls.left(call, CLIENT_CLOSED_REQUEST)
            return
        except Exception as exc:
            reply = self._refusal(call, exc)
        connection.settled(future)
        # A call that was refused has ended already.
        self._calls.answered(call, reply.status, len(reply.body))
        answer(reply, call.request_id)

    def _on_finished(
        self, connection: Any, call: HttpCall, answer: Answer, task: asyncio.Task[Reply]
    ) -> None:
        connection.settled(task)
        if task.cancelled() or connection.transport.is_closing():
            self._calls.left(call, CLIENT_CLOSED_REQUEST)
            return
        try:
            reply = task.result()
        except Exception as exc:
            reply = self._refusal(call, exc)
        self._calls.answered(call, reply.status, len(reply.body))
        answer(reply, call.request_id)

    async def _finish(self, call: HttpCall, response: InferenceResponse) -> Reply:
        """The answer as it is sent; what is large is encoded and compressed in a thread."""
        reply = await in_thread_if(_is_large(response), self._reply, call, response)
        accepted = call.headers.get(b"accept-encoding")
        return reply if accepted is None else await _compressed(accepted, reply)

    async def _stream(self, call: HttpCall, receive: Any, send: Any) -> None:
        """Answer with server-sent events, one for each piece.

        A failure before the first piece is an ordinary error; a later one is sent as an event,
        which ends the answer.
        """
        adapter = call.adapter
        events = Events(send, call.request_id.encode())
        if call.for_canary:
            answer = self._canary_call(call).stream(self._attempted_events)
        else:
            assert call.model is not None, "it was found before"
            pieces = self._calls.stream(call, call.model, call.request, call.timeout)
            answer = self._events(call, pieces)
        with withdrawn_with_caller(call.scope, receive):
            try:
                async with aclosing(answer):
                    async for event, fields in answer:
                        events.add_headers(fields)
                        await events.send(event)
            except Exception as exc:
                if not events.started or isinstance(exc, Cancelled):
                    raise
                error = as_error(exc, call.request_id)
                status, body = adapter.error(error)
                await events.send(adapter.error_event(body))
                await events.end()
                self._calls.refused(call, error, status, events.sent)
            else:
                await events.end()
                self._calls.answered(call, 200, events.sent)

    async def _events(
        self, call: HttpCall, pieces: AsyncGenerator[InferenceResponse, None]
    ) -> AsyncGenerator[tuple[bytes, HeaderList], None]:
        """The events of a streamed answer, each with the header fields that it would add."""
        sent = 0
        fields: HeaderList = []
        async with aclosing(pieces):
            async for piece in pieces:
                model = call.model
                assert model is not None, "it answers"
                if model.model_metadata.takes_headers:
                    piece, fields = header_fields.taken(piece, model.name)
                write = partial(call.adapter.event, model, piece, call.shown, call.context)
                event = await in_thread_if(_is_large(piece), write)
                sent += len(event)
                yield event, fields if call.traffic is None else _with_version(fields, model)
        assert call.model is not None, "it has answered"
        end = partial(call.adapter.last_events, call.model, call.shown, call.context)
        if last := await in_thread_if(sent >= LARGE, end):
            yield last, fields

    async def _relay(self, call: HttpCall, receive: Any, send: Any) -> Reply | None:
        """Send a model's own answer as its pieces come; one that is a single piece is returned."""
        model, whole = call.model, None
        assert model is not None, "decoding found it"
        relay = Relay(send, call.request_id.encode())
        pieces = self._calls.stream(call, model, call.request, call.timeout)
        with withdrawn_with_caller(call.scope, receive):
            try:
                async with aclosing(pieces):
                    async for piece in pieces:
                        write = partial(call.adapter.encode, model, piece)
                        reply = await in_thread_if(
                            _is_large(piece), write, call.shown, call.context
                        )
                        if relay.started or model_call.has_more(piece):
                            await relay.send(reply)
                        else:
                            whole = reply
            except Exception as exc:
                if not relay.started or isinstance(exc, Cancelled):
                    raise
                self._calls.refused(call, as_error(exc, call.request_id), 200, relay.sent)
                await relay.break_off(call.scope.get("headrace.connection"), receive)
                return None
        if whole is None:
            await relay.end()
            self._calls.answered(call, relay.status, relay.sent)
        return whole

    def _find(self, call: HttpCall, name: str | None, version: str | None) -> None:
        """Find the model, before decoding: a request that cannot be decoded is its failure.

        Raises:
            HeadraceError: no model answers, or it is not clear which.
        """
        call.model = self._dataplane.find(name, version, call.adapter, call)

    async def _read_aside(self, call: HttpCall) -> bool:
        """Find the model of a large request and decode it, without blocking other requests.

        Returns whether the answer is to be streamed.
        """
        adapter, match = call.adapter, call.match
        is_large = call.received >= MUCH_TEXT
        call.is_sent = await in_thread_if(is_large, has_much_text, adapter, call)
        aside = call.aside = self._decoder.run if call.is_sent else in_thread
        if adapter.selects_by_body:
            select, seen = large_requests.select, call.seen_aside()
            name, version = await aside(select, adapter, match.name, match.version, seen)
            del seen
        else:
            name, version = call.selected()
        if path := self._dataplane.deciding_member(name):
            await call.read_member(path)
        self._find(call, name, version)
        if call.for_canary:
            return await aside(large_requests.wants_stream, adapter, match.route, call.body)
        return await self._decode_aside(call)

    async def _decode_aside(self, call: HttpCall) -> bool:
        model, route = call.model, call.match.route
        assert call.aside is not None, "it is large"
        assert model is not None, "it was found before"
        limit = call.limit(model.infer_timeout)
        seen, view = call.seen_aside(), large_requests.SeenModel(model) if call.is_sent else model
        decoding = call.aside(large_requests.decode, call.adapter, route, seen, view)
        if call.is_sent:
            # Its tensors are all that is needed from here on, and may be as large again.
            call.body = b""
        del seen
        decoded = await call.in_time(decoding, limit)
        for kind, words in decoded.passed_over:
            model.pass_over(kind, words)
        call.context = decoded.context
        self._take(call, decoded.request)
        call.timeout = max(limit - call.waited, 0.0)
        return decoded.streams

    def _decode(self, call: HttpCall) -> None:
        """Decode the request into the call.

        Raises:
            HeadraceError: the request is refused.
        """
        assert call.model is not None, "it was found before"
        decoded, call.context = call.adapter.decode(call, call.model)
        self._take(call, decoded)

    def _take(self, call: HttpCall, decoded: InferenceRequest) -> None:
        """Make a decoded request that of the call."""
        headers, model = call.headers, call.model
        assert model is not None, "it was found before"
        decoded.received = call.received
        call.request = decoded
        call.shown = decoded.id or call.request_id
        # A failure is logged by this process and by the worker, both under the request's id.
        decoded.id = call.request_id
        if model.model_metadata.takes_headers and decoded.context is None:
            decoded.context = header_fields.request_context(headers, call.credentials)
            if model.cloud_events is not None:
                decoded.context["headers"].update(model.cloud_events.of_request(call.shown))
        given = headers.get(b"x-request-timeout")
        call.timeout = seconds_given(given.decode("latin-1")) if given else None

    def _ask_canary(self, call: HttpCall) -> asyncio.Task[Reply]:
        answer = self._canary_call(call).answer(partial(self._attempt, call))
        return asyncio.create_task(answer)

    def _canary_call(self, call: HttpCall) -> CanaryCall[HttpCall]:
        """A call that is given to a canary; each version that is asked has a copy of it."""
        return CanaryCall(self._calls, call, partial(self._prepare, call))

    async def _prepare(self, call: HttpCall, model: ServedModel, waited: float) -> HttpCall:
        attempt = copy(call)
        attempt.model = model
        if attempt.aside is None:
            self._decode(attempt)
        else:
            await self._decode_aside(attempt)
        if waited:
            limit = model.infer_timeout if attempt.timeout is None else attempt.timeout
            attempt.timeout = max(limit - waited, 0.0)
        call.request = attempt.request
        return attempt

    async def _attempt(self, call: HttpCall, attempt: HttpCall) -> Reply:
        assert attempt.model is not None, "it was prepared for one"
        # Observers have set `timing` since the attempt was copied.
        answer = attempt.model.submit(attempt.request, attempt.timeout, call.timing)
        return await self._finish(attempt, await answer)

    def _attempted_events(
        self, attempt: HttpCall
    ) -> AsyncGenerator[tuple[bytes, HeaderList], None]:
        assert attempt.model is not None, "it was prepared for one"
        return self._events(attempt, attempt.model.stream(attempt.request, attempt.timeout))

    def _submit(self, call: HttpCall) -> asyncio.Future[InferenceResponse]:
        assert call.model is not None, "decoding found it"
        return self._calls.submit(call, call.model, call.request, call.timeout)

    def _reply(self, call: HttpCall, response: InferenceResponse) -> Reply:
        """The answer of a model.

        Raises:
            BadModelOutput: it cannot be expressed in the request's protocol.
        """
        model = call.model
        assert model is not None, "it has answered"
        if not model.model_metadata.takes_headers:
            reply = call.adapter.encode(model, response, call.shown, call.context)
        else:
            response, added = header_fields.taken(response, model.name)
            status, fields, body = call.adapter.encode(model, response, call.shown, call.context)
            # What the protocol itself says comes first.
            own = {name for name, _ in fields}
            reply = Reply(status, [*fields, *(each for each in added if each[0] not in own)], body)
        if call.traffic is None:
            return reply
        return reply._replace(headers=_with_version(reply.headers, model))

    def _refusal(self, call: HttpCall, exc: Exception) -> Reply:
        """The answer to a call that is refused, or that failed."""
        reply = refusal(self._calls, call, exc, call.adapter.error)
        if call.traffic is None or call.model is None:
            return reply
        return reply._replace(headers=_with_version(reply.headers, call.model))


def _with_version(fields: HeaderList, model: ServedModel) -> HeaderList:
    """Header fields with the version of a followed model, which is one of several."""
    return [*fields, (VERSION_FIELD, (model.version or "").encode())]


def _is_large(response: InferenceResponse) -> bool:
    # The outputs of a part are cut out when they are looked at.
    whole = response.answer.response if type(response) is Part else response
    return response.nbytes >= LARGE or len(whole.outputs) >= MANY


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """What `work` returns, which takes long."""
    # The future of a thread would keep it until the garbage is collected.
    found: list[T] = []
    await asyncio.to_thread(lambda: found.append(work(*arguments)))
    return found.pop()


async def in_thread_if(large: bool, work: Callable[..., T], *arguments: Any) -> T:
    """What `work` returns; what is large is done in a thread, so that it holds up nobody else."""
    return await in_thread(work, *arguments) if large else work(*arguments)


async def send_reply(send: Any, reply: Reply, request_id: str) -> None:
    """Send a whole answer over ASGI."""
    status, fields, body = reply
    fields = [*fields, (b"x-request-id", request_id.encode())]
    if status not in WITHOUT_BODY:
        fields = [*fields, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def _compressed(accepted: bytes, reply: Reply) -> Reply:
    return await in_thread_if(len(reply.body) >= COMPRESS_IN_THREAD, _compress, accepted, reply)


def _compress(accepted: bytes, reply: Reply) -> Reply:
    """The reply in an encoding that its caller accepts."""
    status, fields, body = reply
    if any(name == b"content-encoding" for name, _ in fields):
        return reply
    body, encoding = compress(body, accepted)
    if encoding is None:
        return reply
    added = [(b"content-encoding", encoding.encode()), (b"vary", b"accept-encoding")]
    return Reply(status, [*fields, *added], body)
