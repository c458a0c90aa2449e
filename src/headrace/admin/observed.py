"""Turns each request to an admin route into a call, so that observers see it too."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.exceptions import HTTPException

from headrace.access.needs import Needs
from headrace.dataplane import Call, Calls
from headrace.dataplane.call import ADMIN
from headrace.http.header_fields import collect, given_id
from headrace.http.inference import CLIENT_CLOSED_REQUEST, send_reply
from headrace.http.refusals import CALL, Refusals
from headrace.http.router import route_path


class Observed:
    """The ASGI application of one route, whose requests observers see and may refuse.

    An error that `app` raises is the answer; any other exception is a bug, and is logged.
    """

    def __init__(
        self, app: Any, route: str, needs: Needs, calls: Calls, refusals: Refusals
    ) -> None:
        self._app = app
        self._route = route
        self._needs = needs
        self._calls = calls
        self._refusals = refusals

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = collect(scope["headers"])
        id = self._calls.request_id(given_id(headers))
        call = scope[CALL] = Call(ADMIN, self._route, id, scope.get("client"), headers)
        call.method = scope["method"]
        call.needs = self._needs
        answer = Answer(send, call)
        try:
            self._calls.admit(call)
            await self._app(scope, receive, answer.send)
        except asyncio.CancelledError:
            self._calls.left(call, CLIENT_CLOSED_REQUEST)
            raise
        except HTTPException:
            # Starlette's own, for which there is a handler.
            raise
        except Exception as exc:
            reply, id = self._refusals.refuse(route_path(scope), scope, exc)
            if not answer.status:
                await send_reply(send, reply, id)
            return
        # A call that was refused has ended already.
        self._calls.answered(call, answer.status, answer.sent)


class Answer:
    """Passes on an answer with its request id, and records its status and size."""

    def __init__(self, send: Any, call: Call) -> None:
        self._send = send
        self._id = call.request_id.encode()
        self.status = 0
        self.sent = 0

    async def send(self, message: Any) -> None:
        """Send one ASGI message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            fields = message.get("headers", ())
            if not any(name == b"x-request-id" for name, _ in fields):
                message = {**message, "headers": [*fields, (b"x-request-id", self._id)]}
        else:
            self.sent += len(message.get("body", b""))
        await self._send(message)
