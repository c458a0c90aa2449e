"""Health, metadata, MLflow's small routes, OpenAPI and metrics, on Starlette's routing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from headrace.access.needs import DESCRIBE, INFER, OPEN, READ, READ_ALL
from headrace.adapters.adapter import VERSIONED, Adapter, HeaderList, Page
from headrace.adapters.error_bodies import mlflow_error
from headrace.admin import openapi
from headrace.admin.admin_route import AdminRoute, seen
from headrace.admin.docs_page import docs_route
from headrace.admin.json_response import json_response
from headrace.admin.mlserver_docs import mlserver_docs_routes
from headrace.admin.observed import Observed
from headrace.admin.repository_routes import repository_routes
from headrace.admin.rollout_routes import rollout_routes
from headrace.admin.scoring_version import scoring_version
from headrace.admin.status import status_routes
from headrace.admin.triton_routes import triton_routes
from headrace.dataplane import Calls, DataPlane
from headrace.errors import HeadraceError, MethodNotAllowed, ModelNotReady, NotFound, shorten
from headrace.http.inference import InferenceRoutes
from headrace.http.model_router import ModelRoutes
from headrace.http.refusals import Refusals
from headrace.http.router import Router, route_path
from headrace.protocol.error_table import row

# What probes ask, which is counted and logged apart from what users ask: paths, each with the
# method of `Control` that answers it.
HEALTH_PATHS = {
    "/v2/health/live": "live",
    "/v2/health/ready": "ready",
    "/ping": "ping",
    "/health": "ping",
    "/livez": "alive",
    "/healthz": "alive",
    "/readyz": "able",
}


def admin_app(
    dataplane: DataPlane,
    calls: Calls,
    router: Router,
    refusals: Refusals,
    inference: InferenceRoutes,
    metrics: Any,
    more: Sequence[AdminRoute] = (),
) -> Starlette:
    """Every route that is not inference, and the JSON answers for those that do not exist.

    `more` are routes of a platform.
    """
    control = Control(dataplane, router, refusals)
    routes: list[AdminRoute] = [
        # First, because a platform may name any path.
        *control.platform_routes(),
        *more,
        AdminRoute("/v2", DESCRIBE, control.server_metadata),
        AdminRoute("/v2/models", DESCRIBE, control.models),
        # Before those of models, because one may be named `stats`.
        *triton_routes(dataplane),
        *_model_routes(control),
        *repository_routes(dataplane),
        *rollout_routes(dataplane),
        *mlserver_docs_routes(dataplane, router),
        *control.protocol_routes(),
        *status_routes(dataplane, router),
        *control.health_routes(),
        AdminRoute("/version", DESCRIBE, control.version),
        AdminRoute("/openapi.json", READ, control.openapi),
        docs_route(),
    ]
    if metrics is not None:
        routes.append(AdminRoute(metrics.path, READ_ALL, metrics))
    for route in routes:
        route.app = Observed(route.app, route.path, route.needs, calls, refusals)
    # With a slash at the end it is the same, as in the specification's own examples. A redirect
    # would not do: many clients do not follow it.
    own = (route for route in routes if route.endpoint != control.inference_only)
    routes += [_with_slash(route) for route in own if route.path != "/"]
    app = Starlette(
        routes=[*routes, ModelRoutes(dataplane, router, inference, refusals, routes)],
        exception_handlers={
            HTTPException: control.on_http_error,
            HeadraceError: control.on_error,
        },
    )
    app.router.redirect_slashes = False
    return app


def _with_slash(route: AdminRoute) -> AdminRoute:
    methods = list(route.methods or ())
    twin = AdminRoute(f"{route.path}/", route.needs, route.endpoint, methods)
    twin.app = route.app
    return twin


def _model_routes(control: Control) -> list[AdminRoute]:
    routes = []
    for prefix in VERSIONED:
        routes += [
            AdminRoute(prefix, DESCRIBE, control.model_metadata),
            AdminRoute(prefix + "/ready", DESCRIBE, control.model_ready),
        ]
    return routes


class Control:
    """One method per route."""

    def __init__(self, dataplane: DataPlane, router: Router, refusals: Refusals) -> None:
        self._dataplane = dataplane
        self._router = router
        self._refusals = refusals

    def health_routes(self) -> list[AdminRoute]:
        """The routes of `HEALTH_PATHS`."""
        return [
            AdminRoute(path, OPEN, getattr(self, method)) for path, method in HEALTH_PATHS.items()
        ]

    def platform_routes(self) -> list[AdminRoute]:
        """Readiness at the path that a platform names, if one does."""
        path = self._dataplane.settings.health_route
        return [AdminRoute(path, OPEN, self.ready)] if path else []

    def protocol_routes(self) -> list[AdminRoute]:
        """Routes for the adapters' pages, and those that make other verbs a 405, not a 404."""
        routes = [
            AdminRoute(page.path, DESCRIBE, partial(self.page, adapter, page))
            for adapter in self._router.adapters
            for page in adapter.pages
        ]
        # POST never gets here.
        for _, route in self._router.routes():
            routes.append(AdminRoute(route.path, INFER, self.inference_only, methods=["POST"]))
        return routes

    async def page(self, adapter: Adapter, page: Page, request: Request) -> Response:
        """An adapter's page about the models that are served."""
        if self._router.declared(route_path(request.scope)) is not None:
            # What looks like a name ends in a verb, as in `/v1/models/{name}:predict`.
            raise HTTPException(405, headers={"allow": "POST"})
        answer = page.answer(adapter, seen(self._dataplane, request), **request.path_params)
        return Response(answer.body, answer.status, _text(answer.headers))

    @staticmethod
    def _later(may_recover: bool) -> dict[str, str]:
        """The header that invites a retry, where one may succeed."""
        return {"retry-after": "1"} if may_recover else {}

    async def live(self, request: Request) -> Response:
        return json_response({"live": True})

    async def ready(self, request: Request) -> Response:
        if self._dataplane.is_ready():
            return json_response({"ready": True})
        answer: dict[str, Any] = {"ready": False, "error": "the server is not ready"}
        if self._dataplane.draining:
            answer["error"] = "the server is draining"
        elif not_ready := seen(self._dataplane, request).not_ready():
            answer["error"] = "models are not ready: " + ", ".join(sorted(not_ready))
            answer["models"] = not_ready
        elif self._dataplane.is_empty:
            answer["error"] = "no model is served; with --allow-empty, that counts as ready"
        return json_response(answer, 503, self._later(self._dataplane.may_recover()))

    async def server_metadata(self, request: Request) -> Response:
        return json_response(self._dataplane.server_metadata())

    async def models(self, request: Request) -> Response:
        """The names of all models, as in KServe."""
        return json_response({"models": seen(self._dataplane, request).names()})

    async def model_metadata(self, request: Request) -> Response:
        return json_response(seen(self._dataplane, request).model_metadata(*_model_of(request)))

    async def model_ready(self, request: Request) -> Response:
        name, version = _model_of(request)
        try:
            seen(self._dataplane, request).require_ready(name, version)
        except ModelNotReady as error:
            answer = {"name": name, "ready": False, "error": error.message}
            return json_response(answer, 503, self._later(row(error).retry_after))
        return json_response({"name": name, "ready": True})

    async def ping(self, request: Request) -> Response:
        """MLflow answers with one newline while it can score; so does this when ready."""
        if self._dataplane.is_ready():
            return Response(b"\n", media_type="application/json")
        status, body = mlflow_error(ModelNotReady("the server is not ready"))
        later = self._later(self._dataplane.may_recover())
        return Response(body, status, later, "application/json")

    async def alive(self, request: Request) -> Response:
        """As servers of Kubernetes and BentoML do: a newline as long as the process answers."""
        return PlainTextResponse("\n")

    async def able(self, request: Request) -> Response:
        """The same if every model can answer; `ready` gives the reasons if not."""
        if self._dataplane.is_ready():
            return PlainTextResponse("\n")
        later = self._later(self._dataplane.may_recover())
        return PlainTextResponse("not ready\n", 503, later)

    async def version(self, request: Request) -> Response:
        return Response(scoring_version(), media_type="application/json")

    async def openapi(self, request: Request) -> Response:
        mounted_at = request.scope.get("root_path", "")
        return json_response(
            openapi.document(seen(self._dataplane, request), self._router, mounted_at)
        )

    async def inference_only(self, request: Request) -> Response:
        raise AssertionError("inference routes are answered before Starlette; this is a bug")

    async def on_error(self, request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HeadraceError)
        path = route_path(request.scope)
        reply, id = self._refusals.refuse(path, request.scope, exc)
        headers = _text([*reply.headers, (b"x-request-id", id.encode())])
        return Response(reply.body, reply.status, headers)

    async def on_http_error(self, request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        path = shorten(request.scope["path"])
        if exc.status_code == 405:
            error: HeadraceError = MethodNotAllowed(f"{request.method} is not allowed on {path}")
        else:
            error = NotFound(f"nothing is served at {path}")
        response = await self.on_error(request, error)
        # Not if the caller is refused for who it is, who must not learn what there is.
        if response.status_code == 405:
            response.headers.update(exc.headers or {})
            if self._router.declared(route_path(request.scope)):
                response.headers["allow"] = "POST"
        return response


def _model_of(request: Request) -> tuple[str, str | None]:
    return request.path_params["name"], request.path_params.get("version")


def _text(fields: HeaderList) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in fields}
