"""A service's middleware and mounted applications, called as ASGI wants it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping
from typing import Any, Callable

from headrace.errors import HeadraceError
from headrace.protocol.error_table import row
from headrace.protocol.model_call import ModelAnswer, ModelCall, asgi_scope
from headrace.services.asgi_body import read_body
from headrace.services.service import Service

# Answers the endpoint that a call is for.
AnswerEndpoint = Callable[[ModelCall, bytes], Awaitable[ModelAnswer]]
# Sends a piece of an answer, with its head, and whether more follow.
PutPiece = Callable[[ModelAnswer, bool], Awaitable[None]]
MOUNT = "mount "


class AsgiCalls:
    """Passes calls through the middlewares of a service, to its endpoints or what is mounted."""

    def __init__(
        self, service: Service, answer_endpoint: AnswerEndpoint, states: Mapping[str, Any]
    ) -> None:
        self._answer_endpoint = answer_endpoint
        self._mounts = service.mounts
        # What the applications keep for all their requests, by path.
        self._states = states
        app: Any = self._innermost
        # The first one is the outermost.
        for middleware, options in reversed(service.middlewares):
            app = middleware(app, **options)
        self._app = app

    async def answer(self, call: ModelCall, body: bytes) -> ModelAnswer:
        """The answer to a call, once it is whole.

        Middlewares see an error of the endpoint as the answer that it is to its caller.

        Raises:
            HeadraceError: the application sent no whole answer; or what the endpoint raised, with
                the answer that the middlewares made of it.
        """
        answer, errors = _Collected(), list[HeadraceError]()
        scope = {**asgi_scope(call), "headrace.call": (call, errors)}
        await self._app(scope, _receiver(body), answer.send)
        whole = answer.whole()
        if errors and whole.status >= 400:
            # It is counted and logged as the error that it is.
            errors[0].answer = whole
            raise errors[0]
        return whole

    async def relay(self, call: ModelCall, body: bytes, put: PutPiece) -> None:
        """Answer a call of what is mounted, piece by piece.

        Raises:
            HeadraceError: the application sent no whole answer.
        """
        answer = _Relayed(put)
        scope = {**asgi_scope(call), "headrace.call": (call, list[HeadraceError]())}
        await self._app(scope, _receiver(body), answer.send)
        answer.check()

    async def _innermost(self, scope: Any, receive: Any, send: Any) -> None:
        call, errors = scope["headrace.call"]
        if call.handler.startswith(MOUNT):
            path = call.handler[len(MOUNT) :]
            root = "" if path == "/" else path
            inner = {key: value for key, value in scope.items() if key != "headrace.call"}
            inner.update(root_path=root, state=dict(self._states.get(path) or {}))
            await self._mounts[path](inner, receive, send)
            return
        # A middleware may have changed the body, or headers.
        body = await read_body(receive)
        headers = [[name.decode("latin-1"), v.decode("latin-1")] for name, v in scope["headers"]]
        try:
            answer = await self._answer_endpoint(call._replace(headers=headers), body)
        except HeadraceError as error:
            errors.append(error)
            answer = answer_of(error)
        fields = [(name.encode("latin-1"), v.encode("latin-1")) for name, v in answer.headers]
        fields.append((b"content-length", b"%d" % len(answer.body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": fields})
        await send({"type": "http.response.body", "body": answer.body})


def answer_of(error: HeadraceError, status: int | None = None) -> ModelAnswer:
    """An error as an answer over HTTP, with `status` in place of that of its kind if given."""
    if error.answer is not None:
        return ModelAnswer(*error.answer)
    body = json.dumps({"error": error.message, "code": error.kind}, ensure_ascii=False)
    fields = [["content-type", "application/json"]]
    return ModelAnswer(status or row(error).status, fields, body.encode("utf-8", "replace"))


class _Collected:
    """The messages of an answer, put together."""

    def __init__(self) -> None:
        self._status = 0
        self._headers: list[list[str]] = []
        self._body: list[bytes] = []
        self._ended = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [
                [name.decode("latin-1"), value.decode("latin-1")]
                for name, value in message.get("headers", [])
            ]
        elif message["type"] == "http.response.body":
            self._body.append(bytes(message.get("body", b"")))
            self._ended = not message.get("more_body", False)

    def whole(self) -> ModelAnswer:
        if not self._status or not self._ended:
            raise HeadraceError("a mounted application or a middleware sent no whole answer")
        return ModelAnswer(self._status, self._headers, b"".join(self._body))


class _Relayed:
    """The messages of an answer, passed on as they come; its head goes with its first bytes."""

    def __init__(self, put: PutPiece) -> None:
        self._put = put
        self._head: ModelAnswer | None = None
        self._ended = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            fields = [
                [name.decode("latin-1"), value.decode("latin-1")]
                for name, value in message.get("headers", [])
            ]
            self._head = ModelAnswer(message["status"], fields, b"")
        elif message["type"] == "http.response.body" and not self._ended:
            if self._head is None:
                raise HeadraceError("a mounted application sent a body before its head")
            body, more = bytes(message.get("body", b"")), message.get("more_body", False)
            self._ended = not more
            if body or self._ended:
                await self._put(self._head._replace(body=body), more)

    def check(self) -> None:
        if not self._ended:
            raise HeadraceError("a mounted application or a middleware sent no whole answer")


def _receiver(body: bytes) -> Callable[[], Awaitable[dict[str, Any]]]:
    pending = [body]

    async def receive() -> dict[str, Any]:
        if not pending:
            # That the caller left is known to the task, which is cancelled.
            await asyncio.get_running_loop().create_future()
        return {"type": "http.request", "body": pending.pop(), "more_body": False}

    return receive
