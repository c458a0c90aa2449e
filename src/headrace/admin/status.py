"""Routes that the MLflow pluggable scoring server has besides `/api/predict`, and the index."""

from __future__ import annotations

import logging
import os
import sys

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from headrace.access.needs import READ, READ_ALL
from headrace.admin import openapi
from headrace.admin.admin_route import AdminRoute, seen
from headrace.admin.json_response import NO_PAGE, json_response
from headrace.dataplane import DataPlane
from headrace.errors import listing
from headrace.http.router import Router

INDEX = """{name} {version}
models: {models}

/docs                   a page to try every route
/openapi.json           every route, with its request and its answer
/v2/models/MODEL        the inputs and outputs of a model
/v2/health/ready        whether every model can answer
/api/status             this process, and the state of every model
"""


def status_routes(dataplane: DataPlane, router: Router) -> list[AdminRoute]:
    """The status, the OpenAPI document under its older names, and a page of links."""
    status = Status(dataplane, router)
    return [
        AdminRoute("/", READ, status.index),
        AdminRoute("/api/status", READ_ALL, status.status),
        AdminRoute("/api/swagger", READ, status.document),
        AdminRoute("/swagger.json", READ, status.document),
    ]


class Status:
    """One method per route."""

    def __init__(self, dataplane: DataPlane, router: Router) -> None:
        self._dataplane = dataplane
        self._router = router

    async def index(self, request: Request) -> Response:
        server = self._dataplane.server_metadata()
        names = list(
            dict.fromkeys(entry["name"] for entry in seen(self._dataplane, request).index())
        )
        models = listing(names) if names else "none"
        return PlainTextResponse(
            INDEX.format(name=server["name"], version=server["version"], models=models),
            headers=NO_PAGE,
        )

    async def status(self, request: Request) -> Response:
        """The keys are those that existing scripts read; `models` is an addition."""
        level = logging.getLogger("headrace").getEffectiveLevel()
        system = {
            "pid": os.getpid(),
            # Its name only: where a server's files are is nobody's business.
            "current_dir": os.path.basename(os.getcwd()),
            "python.version": sys.version,
            "request": {
                "url_root": str(request.base_url),
                "remote_addr": request.client.host if request.client else None,
            },
            "current_logging_level": logging.getLevelName(level),
        }
        return json_response({"system": system, "models": self._dataplane.index()})

    async def document(self, request: Request) -> Response:
        return json_response(openapi.document(seen(self._dataplane, request), self._router))
