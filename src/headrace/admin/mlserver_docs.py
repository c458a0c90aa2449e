"""The OpenAPI document and the page under the paths that MLServer has for them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.adapters.adapter import VERSIONED
from headrace.admin import openapi
from headrace.admin.docs_page import page
from headrace.admin.json_response import json_response
from headrace.dataplane import DataPlane
from headrace.http.router import Router


def mlserver_docs_routes(dataplane: DataPlane, router: Router) -> list[Route]:
    """`docs` and `docs/dataplane.json` below `/v2` and below each model."""
    docs = MLServerDocs(dataplane, router)
    routes = [Route("/v2/docs", docs.show), Route("/v2/docs/dataplane.json", docs.document)]
    for prefix in VERSIONED:
        routes += [
            Route(prefix + "/docs", docs.show),
            Route(prefix + "/docs/dataplane.json", docs.document_of_model),
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
            self._dataplane.get(**request.path_params)
        # Relative, because a proxy may serve this server under a path of its own.
        depth = request.url.path.rstrip("/").count("/") - 1
        return page("../" * depth)

    async def document(self, request: Request) -> Response:
        return json_response(openapi.document(self._dataplane, self._router))

    async def document_of_model(self, request: Request) -> Response:
        """The document with the routes below the model's path, and no others."""
        self._dataplane.get(**request.path_params)
        document = openapi.document(self._dataplane, self._router)
        prefix = request.url.path.rstrip("/").removesuffix("/docs/dataplane.json")
        document["paths"] = {
            path: operations
            for path, operations in document["paths"].items()
            if path == prefix or path.startswith(prefix + "/")
        }
        return json_response(document)
