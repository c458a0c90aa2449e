"""Routes of the model repository extension: index, load, unload."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.access.needs import ADMIN, READ
from headrace.admin.admin_route import AdminRoute, seen
from headrace.admin.json_response import json_response
from headrace.admin.object_body import read_object
from headrace.dataplane import DataPlane
from headrace.errors import InvalidInput

PREFIX = "/v2/repository"


def repository_routes(dataplane: DataPlane) -> list[AdminRoute]:
    """The three routes; their bodies may be empty."""
    control = RepositoryControl(dataplane)
    model = PREFIX + "/models/{name}"
    return [
        AdminRoute(PREFIX + "/index", READ, control.index, methods=["POST"]),
        AdminRoute(model + "/load", ADMIN, control.load, methods=["POST"]),
        AdminRoute(model + "/unload", ADMIN, control.unload, methods=["POST"]),
    ]


class RepositoryControl:
    """One method per route."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    async def index(self, request: Request) -> Response:
        ready = (await read_object(request)).get("ready") or False
        if not isinstance(ready, bool):
            raise InvalidInput("ready: expected true or false")
        return json_response(seen(self._dataplane, request).index(ready))

    async def load(self, request: Request) -> Response:
        parameters = (await read_object(request)).get("parameters")
        await seen(self._dataplane, request).load(request.path_params["name"], parameters)
        return json_response({})

    async def unload(self, request: Request) -> Response:
        # No model here depends on another, so `unload_dependents` changes nothing.
        await read_object(request)
        await seen(self._dataplane, request).unload(request.path_params["name"])
        return json_response({})
