"""The ASGI application of the whole HTTP server: protocols first, everything else by Starlette."""

from __future__ import annotations

from typing import Any

from headrace.dataplane import Calls, DataPlane
from headrace.http.control import control_app
from headrace.http.inference import InferenceRoutes, Scope
from headrace.http.router import Router, route_path
from headrace.settings import ServerSettings


class App:
    """Hands POST requests to the protocol that declared their path.

    Connections of our own listener hand small ones to `inference.direct` instead, which saves
    each of them a task.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        calls: Calls,
        router: Router,
        settings: ServerSettings,
        metrics: Any,
    ) -> None:
        self.inference = InferenceRoutes(dataplane, calls, router, settings.max_body_size)
        self._match = router.match
        self._control = control_app(dataplane, router, metrics, self.inference)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        kind = scope["type"]
        if kind == "http":
            target = self._match(route_path(scope)) if scope["method"] == "POST" else None
            if target is not None:
                await self.inference(scope, receive, send, target)
            else:
                await self._control(scope, receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1008})
