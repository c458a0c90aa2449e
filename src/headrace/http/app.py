"""The ASGI application of the whole HTTP server: protocols first, then everything else."""

from __future__ import annotations

from typing import Any

from headrace.http.inference import InferenceRoutes, Scope
from headrace.http.router import Router, route_path


class App:
    """Passes POST requests to the adapter that declared their path, and the rest to `admin`.

    Headrace's own connections pass small requests to `inference.direct` instead, which saves
    each of them a task.
    """

    def __init__(self, router: Router, inference: InferenceRoutes, admin: Any) -> None:
        self.inference = inference
        self._match = router.match
        self._admin = admin

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        kind = scope["type"]
        if kind == "http":
            match = self._match(route_path(scope)) if scope["method"] == "POST" else None
            if match is not None:
                await self.inference(scope, receive, send, match)
            else:
                await self._admin(scope, receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1008})
