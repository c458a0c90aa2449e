"""The HTTP door: which path goes where. Inference is our own, everything else Starlette."""

from __future__ import annotations

from typing import Any

from headrace.dataplane import DataPlane
from headrace.http.control import control_app
from headrace.http.inference import InferenceRoutes, Scope
from headrace.http.wires import match, match_stream
from headrace.settings import ServerSettings


class App:
    """The ASGI application of the whole HTTP door.

    Connections of our own listener hand small inference requests to `inference.direct` instead,
    which saves each of them a task.
    """

    def __init__(self, dataplane: DataPlane, settings: ServerSettings, metrics: Any) -> None:
        self.inference = InferenceRoutes(dataplane, settings)
        self._control = control_app(dataplane, metrics, self.inference)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        kind = scope["type"]
        if kind == "http":
            path, is_post = scope["path"], scope["method"] == "POST"
            if is_post and (target := match(path)) is not None:
                await self.inference(scope, receive, send, target)
            elif is_post and (target := match_stream(path)) is not None:
                await self.inference.stream(scope, receive, send, target)
            else:
                await self._control(scope, receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1008})
