"""Routes of Triton's extensions: statistics, model configuration, and those that are refused."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.access.needs import ADMIN_ALL, DESCRIBE, READ
from headrace.adapters.adapter import VERSIONED
from headrace.admin.admin_route import AdminRoute, seen
from headrace.admin.json_response import json_response
from headrace.dataplane import DataPlane
from headrace.errors import Unimplemented
from headrace.protocol.open_inference.triton_parameters import NO_SHARED_MEMORY

SHARED_MEMORY_PATHS = ("/v2/systemsharedmemory/{path:path}", "/v2/cudasharedmemory/{path:path}")


def triton_routes(dataplane: DataPlane) -> list[AdminRoute]:
    """All of them; the statistics of all models are at the path of a model named `stats`."""
    triton = TritonControl(dataplane)
    routes = [
        AdminRoute(prefix + "/stats", READ, triton.statistics)
        for prefix in ("/v2/models", *VERSIONED)
    ]
    routes += [AdminRoute(prefix + "/config", DESCRIBE, triton.config) for prefix in VERSIONED]
    return routes + [
        AdminRoute(path, ADMIN_ALL, triton.shared_memory, methods=["GET", "POST"])
        for path in SHARED_MEMORY_PATHS
    ]


class TritonControl:
    """One method per route."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    async def statistics(self, request: Request) -> Response:
        """What is counted, in Triton's form."""
        return json_response(seen(self._dataplane, request).statistics(**request.path_params))

    async def config(self, request: Request) -> Response:
        """What Triton's clients read of a configuration."""
        return json_response(seen(self._dataplane, request).triton_config(**request.path_params))

    async def shared_memory(self, request: Request) -> Response:
        """What is not done, in words instead of a 404."""
        raise Unimplemented(NO_SHARED_MEMORY)
