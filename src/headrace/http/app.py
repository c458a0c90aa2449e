"""The HTTP door: which path goes where. Inference is raw ASGI, everything else Starlette."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from headrace.dataplane import DataPlane
from headrace.http.control import control_app
from headrace.http.inference import InferenceRoutes, OpenInference, Scope, Scoring, Target
from headrace.settings import ServerSettings

OPEN_INFERENCE = OpenInference()
SCORING = Scoring()


class App:
    """The ASGI application of the whole HTTP door."""

    def __init__(self, dataplane: DataPlane, settings: ServerSettings, metrics: Any) -> None:
        self._infer = InferenceRoutes(dataplane, settings)
        self._control = control_app(dataplane, metrics)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        kind = scope["type"]
        if kind == "http":
            if scope["method"] == "POST":
                target = match(scope["path"])
                if target is not None:
                    await self._infer(scope, receive, send, target)
                    return
            await self._control(scope, receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1008})


@lru_cache(maxsize=4096)
def match(path: str) -> Target | None:
    """The inference target of a path, or None when it is no inference route. Hot."""
    if path == "/invocations":
        return Target(SCORING)
    parts = path.split("/")
    if len(parts) == 5 and parts[1] == "v2" and parts[2] == "models":
        wire = WIRES.get(parts[4])
        return Target(wire, parts[3]) if wire is not None else None
    if len(parts) == 7 and parts[1:3] == ["v2", "models"] and parts[4] == "versions":
        wire = WIRES.get(parts[6])
        return Target(wire, parts[3], parts[5]) if wire is not None else None
    return None


WIRES: dict[str, Any] = {"infer": OPEN_INFERENCE, "invocations": SCORING}
