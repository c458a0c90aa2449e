"""The OpenAPI document and the page under the paths that MLServer has for them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.access.needs import OPEN, READ
from headrace.adapters.adapter import VERSIONED
from headrace.admin import openapi
from headrace.admin.admin_route import AdminRoute, seen
from headrace.admin.docs_page import page
from headrace.admin.json_response import json_response
from headrace.dataplane import DataPlane
from headrace.http.router import Router


def mlserver_docs_routes(dataplane: DataPlane, router: Router) -> list[AdminRoute]:
    """`docs` and `docs/dataplane.json` below `/v2` and below each model."""
    docs = MLServerDocs(dataplane, router)
    routes = [
        AdminRoute("/v2/docs", OPEN, docs.show),
        AdminRoute("/v2/docs/dataplane.json", READ, docs.document),
    ]
    for prefix in VERSIONED:
        routes += [
            AdminRoute(prefix + "/docs", READ, docs.show),
            AdminRoute(prefix + "/docs/dataplane.json", READ, docs.document_of_model),
        ]
    return routes


class MLServerDocs:
    """One method per route."""

    def __init__(self, dataplane: DataPlane, router: Router) -> None:
        self._dataplane = dataplane
        self._router = router

    async def show(self, request: Request) -> Response:
        """The page of every route; below a model, only if there is such a model."""
        if request.path_params:
            seen(self._dataplane, request).get(**request.path_params)
        # Relative, because a proxy may serve this server under a path of its own.
        depth = request.url.path.rstrip("/").count("/") - 1
        return page("../" * depth)

    async def document(self, request: Request) -> Response:
        return json_response(openapi.document(seen(self._dataplane, request), self._router))

    async def document_of_model(self, request: Request) -> Response:
        """The document with the routes below the model's path, and no others."""
        seen(self._dataplane, request).get(**request.path_params)
        document = openapi.document(seen(self._dataplane, request), self._router)
        prefix = request.url.path.rstrip("/").removesuffix("/docs/dataplane.json")
        document["paths"] = {
            path: operations
            for path, operations in document["paths"].items()
            if path == prefix or path.startswith(prefix + "/")
        }
        return json_response(document)
