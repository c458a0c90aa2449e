"""The inference routes: read, decode, infer, encode, send. Hot."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from itertools import count
from secrets import token_hex
from typing import Any, NamedTuple

from headrace.dataplane import Call, DataPlane
from headrace.errors import Cancelled, HeadraceError, InvalidInput
from headrace.http import model_headers
from headrace.http.body import compress, read_body
from headrace.http.cycle import WITHOUT_BODY
from headrace.http.errors import error_body, error_headers, row
from headrace.http.events import Events
from headrace.http.wires import JSON_HEADERS, RAW, HeaderList, Headers, Target, Wire, match
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.rest_binary import NO_OUTPUTS
from headrace.repository.served import ServedModel
from headrace.settings import ServerSettings

logger = logging.getLogger("headrace.http")

Scope = dict[str, Any]
Answer = Callable[[int, HeaderList, bytes], None]

REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,256}")

# Answers from here on are compressed in a thread, so that they hold up nobody else.
COMPRESS_IN_THREAD = 64 * 1024


class Exchange(NamedTuple):
    """A request that was handed to its model, and all that its answer needs."""

    call: Call
    wire: Wire
    context: Any
    id: str
    request_id: bytes
    accepted: bytes | None


class InferenceRoutes:
    """Answers every inference route of every protocol.

    `__call__` is the ASGI application. `direct` does the same without a task, for connections
    that hold a whole small request in memory already. Both are `_begin`, then `_conclude`.
    """

    def __init__(self, dataplane: DataPlane, settings: ServerSettings) -> None:
        self._dataplane = dataplane
        self._limit = settings.max_body_size
        self._prefix = token_hex(4).encode()
        self._ids = count(1)
        self.match = match

    async def __call__(self, scope: Scope, receive: Any, send: Any, target: Target) -> None:
        headers = collect(scope["headers"])
        request_id = self._request_id(headers)
        try:
            body = await read_body(headers, receive, self._limit)
            exchange = self._begin(headers, request_id, body, target)
            await _settled(scope, exchange.call)
            fields, body = await _compressed(exchange, *self._conclude(exchange))
            await _send(send, target.wire.status, fields, body)
        except (Cancelled, asyncio.CancelledError) as exc:
            if isinstance(exc, asyncio.CancelledError) and not _has_left(scope):
                raise
            _log_leaving(request_id)
        except Exception as exc:
            await _send(send, *_refusal(scope["path"], exc, request_id))

    async def stream(self, scope: Scope, receive: Any, send: Any, target: Target) -> None:
        """Answer with server-sent events, one `data:` line of JSON per piece.

        What goes wrong before the first piece is an ordinary error; after it, an event named
        `error`, and the answer ends.
        """
        headers = collect(scope["headers"])
        request_id = self._request_id(headers)
        events = Events(send, request_id)
        try:
            body = await read_body(headers, receive, self._limit)
            model = self._find(target)
            request, _ = target.wire.decode(body, headers, model)
            shown = request.id or request_id.decode("ascii")
            request.id = request_id.decode("ascii")
            if model.model_metadata.takes_headers:
                request.origin = model_headers.origin(headers)
            given = headers.get(b"x-request-timeout")
            timeout = _timeout(given) if given else None
            with _withdrawn_with_caller(scope):
                async with aclosing(self._dataplane.stream(model, request, timeout)) as pieces:
                    async for piece in pieces:
                        text, _ = target.wire.encode(model, piece, shown, NO_OUTPUTS)
                        await events.send(b"data: %b\n\n" % text)
            await events.end()
        except (Cancelled, asyncio.CancelledError) as exc:
            if isinstance(exc, asyncio.CancelledError) and not _has_left(scope):
                raise
            _log_leaving(request_id)
        except Exception as exc:
            status, fields, text = _refusal(scope["path"], exc, request_id)
            if events.started:
                await events.send(b"event: error\ndata: %b\n\n" % text)
                await events.end()
            else:
                await _send(send, status, fields, text)

    def direct(
        self, connection: Any, target: Target, body: bytes, answer: Answer
    ) -> asyncio.Future[Any] | None:
        """Take a request that has arrived whole; `answer` is called once, now or later. Hot.

        Returns the future of the request in flight, or None when it is answered already.
        """
        headers = collect(connection.scope["headers"])
        request_id = self._request_id(headers)
        try:
            exchange = self._begin(headers, request_id, body, target)
        except Exception as exc:
            answer(*_refusal(connection.scope["path"], exc, request_id))
            return None
        future = exchange.call.future
        connection.on_disconnect = future.cancel
        future.add_done_callback(partial(self._on_done, connection, exchange, answer))
        return future

    def _on_done(
        self, connection: Any, exchange: Exchange, answer: Answer, future: asyncio.Future[Any]
    ) -> None:
        connection.settled(future)
        try:
            fields, body = self._conclude(exchange)
        except asyncio.CancelledError:
            _log_leaving(exchange.request_id)
        except Exception as exc:
            answer(*_refusal(connection.scope["path"], exc, exchange.request_id))
        else:
            if exchange.accepted is not None:
                fields, body = _compress(exchange.accepted, fields, body)
            answer(200, fields, body)

    def _begin(self, headers: Headers, request_id: bytes, body: bytes, target: Target) -> Exchange:
        """Decode a request and queue it.

        Raises:
            HeadraceError: the request is refused.
        """
        wire = target.wire
        model = self._find(target)
        request, context = wire.decode(body, headers, model)
        id = request.id or request_id.decode("ascii")
        # A failure is logged by this process and by the worker, both under the request's id.
        request.id = request_id.decode("ascii")
        if model.model_metadata.takes_headers and request.origin is None:
            request.origin = model_headers.origin(headers)
        given = headers.get(b"x-request-timeout")
        call = self._dataplane.start(model, request, _timeout(given) if given else None)
        accepted = headers.get(b"accept-encoding")
        return Exchange(call, wire, context, id, request_id, accepted)

    def _conclude(self, exchange: Exchange) -> tuple[HeaderList, bytes]:
        """Headers and body of the answer to a request whose future is done.

        Raises:
            asyncio.CancelledError: the caller left.
            HeadraceError: the request failed.
        """
        call = exchange.call
        response: InferenceResponse = self._dataplane.finish(call)
        added: HeaderList = []
        if call.model.model_metadata.takes_headers:
            response, added = model_headers.taken(response, call.model.name)
        body, fields = exchange.wire.encode(call.model, response, exchange.id, exchange.context)
        return [*fields, *added, (b"x-request-id", exchange.request_id)], body

    def _find(self, target: Target) -> ServedModel:
        if target.name is None:
            plane = self._dataplane
            return plane.only_plugin() if target.wire is RAW else plane.only_model()
        return self._dataplane.repository.get(target.name, target.version)

    def _request_id(self, headers: Headers) -> bytes:
        given = headers.get(b"x-request-id")
        if given is not None and REQUEST_ID.fullmatch(given):
            return given
        return b"%b-%x" % (self._prefix, next(self._ids))


def collect(fields: HeaderList) -> Headers:
    """Header fields by name; a field sent more than once is joined with commas (RFC 9110 5.3)."""
    headers = dict(fields)
    if len(headers) != len(fields):
        headers = {}
        for name, value in fields:
            headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


@contextmanager
def _withdrawn_with_caller(scope: Scope) -> Iterator[None]:
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


async def _settled(scope: Scope, call: Call) -> None:
    """Wait until the call is done; a caller who leaves withdraws it."""
    connection = scope.get("headrace.connection")
    if connection is not None:
        connection.on_disconnect = call.future.cancel
    try:
        await asyncio.wait([call.future])
    finally:
        call.future.cancel()
        if connection is not None:
            connection.on_disconnect = None


def _refusal(path: str, exc: Exception, request_id: bytes) -> tuple[int, HeaderList, bytes]:
    """Status, headers and body that tell an error, which is logged under the request's id."""
    extra = {"request_id": request_id.decode("ascii")}
    if isinstance(exc, HeadraceError):
        error = exc
    else:
        logger.error("a request failed; this is a bug", exc_info=exc, extra=extra)
        error = HeadraceError("the server failed on this request; its log has the details")
    status, body = error_body(path, error)
    level = logging.ERROR if status >= 500 and not row(error).retry_after else logging.INFO
    logger.log(level, "%s", error.message, extra={**extra, "status": status, "kind": error.kind})
    fields = [*JSON_HEADERS, *error_headers(error), (b"x-request-id", request_id)]
    return status, fields, body


def _log_leaving(request_id: bytes) -> None:
    extra = {"request_id": request_id.decode("ascii"), "status": 499}
    logger.debug("the caller left", extra=extra)


async def _send(send: Any, status: int, fields: HeaderList, body: bytes) -> None:
    if status not in WITHOUT_BODY:
        fields = [*fields, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def _compressed(
    exchange: Exchange, fields: HeaderList, body: bytes
) -> tuple[HeaderList, bytes]:
    if exchange.accepted is None or any(name == b"content-encoding" for name, _ in fields):
        return fields, body
    if len(body) < COMPRESS_IN_THREAD:
        return _compress(exchange.accepted, fields, body)
    return await asyncio.to_thread(_compress, exchange.accepted, fields, body)


def _compress(accepted: bytes, fields: HeaderList, body: bytes) -> tuple[HeaderList, bytes]:
    body, encoding = compress(body, accepted)
    if encoding is None:
        return fields, body
    added = [(b"content-encoding", encoding.encode()), (b"vary", b"accept-encoding")]
    return [*fields, *added], body


def _has_left(scope: Scope) -> bool:
    connection = scope.get("headrace.connection")
    return connection is not None and connection.transport.is_closing()


def _timeout(given: bytes) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise InvalidInput("X-Request-Timeout: expected a number of seconds above 0")
    return seconds
