"""Routes that served models declare, tried after all of the server's own."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, NoMatchFound, compile_path

from headrace.adapters.adapter import (
    JSON_HEADERS,
    Adapter,
    HttpRequest,
    ModelView,
    Reply,
    Route,
)
from headrace.dataplane import DataPlane
from headrace.dataplane.call import OWN_ROUTE
from headrace.errors import NotFound, shorten
from headrace.http.cycle import WITHOUT_BODY
from headrace.http.header_fields import FRAMING, field
from headrace.http.inference import InferenceRoutes
from headrace.http.refusals import Refusals
from headrace.http.router import RouteMatch, Router, route_path
from headrace.protocol import model_call
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelRoute
from headrace.protocol.model_call import ModelCall
from headrace.serving.served_model import ServedModel

logger = logging.getLogger("headrace.http")

FOUND = "headrace.model_route"
# Characters of the header fields of an answer that are remembered.
LONGEST_FIELDS = 2048


class Found(NamedTuple):
    """The route that a request matches, and the values of its path parameters."""

    model: ServedModel
    route: ModelRoute
    parameters: dict[str, str]


@lru_cache(maxsize=1024)
def _pattern(path: str) -> re.Pattern[str] | None:
    """A path template as a pattern; None if it is malformed."""
    try:
        return compile_path(path)[0]
    except (AssertionError, ValueError, re.error):
        return None


class ModelRoutes(BaseRoute):
    """Finds the model that answers a path, and passes the request to it as inference does.

    If two models declare the same route, the one that the server knew first answers it. The
    `server` routes take precedence over both. A POST to a path without braces does not get here:
    `router` has these, so that they are answered as directly as inference is.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        router: Router,
        inference: InferenceRoutes,
        refusals: Refusals,
        server: Sequence[BaseRoute],
    ) -> None:
        self._dataplane = dataplane
        self._router = router
        self._inference = inference
        self._refusals = refusals
        self._server = server
        dataplane.watch(self._take)

    def matches(self, scope: Any) -> tuple[Match, Any]:
        """Whether a model has such a route, by path and method or by path alone."""
        if scope["type"] != "http":
            return Match.NONE, {}
        others = []
        for found in self._candidates(route_path(scope)):
            if found.route.method == scope["method"]:
                return Match.FULL, {FOUND: found}
            others.append(found)
        return (Match.PARTIAL, {FOUND: others}) if others else (Match.NONE, {})

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request that matched."""
        found = scope[FOUND]
        if not isinstance(found, Found):
            hides = self._refusals.admitted(scope).hides
            seen = [each for each in found if hides is None or not hides(each.model.name)]
            if not seen:
                raise HTTPException(404)
            allowed = sorted({each.route.method for each in seen})
            raise HTTPException(405, headers={"allow": ", ".join(allowed)})
        model = found.model
        adapter = OwnRoute(found.route, found.parameters)
        match = RouteMatch(adapter, _route(found.route), model.name, model.version)
        await self._inference(scope, receive, send, match)

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        """No route here has a name."""
        raise NoMatchFound(name, path_params)

    def _take(self, model: ServedModel) -> None:
        """Serve and report the routes of a model that has become ready."""
        self._router.own = self._plain_routes(model)
        self.report(model)

    def _plain_routes(self, ready: ServedModel) -> dict[str, RouteMatch]:
        own: dict[str, RouteMatch] = {}
        for other in self._dataplane.answering():
            # A model that is to replace another is not in its place yet.
            model = ready if other.name == ready.name else other
            for route in model.model_metadata.routes:
                if route.method != "POST" or "{" in route.path or self._is_servers(route):
                    continue
                adapter = OwnRoute(route, {})
                own.setdefault(route.path, RouteMatch(adapter, _route(route), model.name))
        return own

    def report(self, model: ServedModel) -> None:
        """Warn about routes that are not served, now that this model has become ready."""
        for route in model.model_metadata.routes:
            shown = f"{route.method} {shorten(route.path)}"
            if _pattern(route.path) is None:
                _warn(model.name, shown, "its path is malformed")
            elif self._is_servers(route):
                _warn(model.name, shown, "the server itself has a route there")
            else:
                first, *others = self._holders(model, route)
                for name in others if first == model.name else [model.name] if others else []:
                    _warn(name, shown, f"model '{first}' already has it")

    def _is_servers(self, route: ModelRoute) -> bool:
        scope = {"type": "http", "path": route.path, "method": route.method}
        return any(own.matches(scope)[0] is Match.FULL for own in self._server)

    def _holders(self, model: ServedModel, route: ModelRoute) -> list[str]:
        """The models that declare the same route, including this one, the longest known first."""
        wanted = route.method, route.path
        found = []
        for other in self._dataplane.answering():
            # A model that will replace another has not taken its place yet.
            current = model if other.name == model.name else other
            if wanted in [(item.method, item.path) for item in current.model_metadata.routes]:
                found.append(current.name)
        return found or [model.name]

    def _candidates(self, path: str) -> Iterator[Found]:
        for model in self._dataplane.answering():
            for route in model.model_metadata.routes:
                pattern = _pattern(route.path)
                match = pattern.match(path) if pattern is not None else None
                if match is not None:
                    yield Found(model, route, match.groupdict())


def _warn(model: str, route: str, why: str) -> None:
    logger.warning("custom route %s is not served: %s", route, why, extra={"model": model})


def _route(own: ModelRoute) -> Route:
    return Route(own.path, streams=own.relays)


class OwnRoute(Adapter):
    """The adapter of one request to a model's own route, which a handler in the worker answers."""

    name = OWN_ROUTE
    # Another version need not have the same handlers.
    reaches_canaries = False

    def __init__(self, route: ModelRoute, parameters: dict[str, str]) -> None:
        self._route = route
        self._parameters = parameters
        self.relays = route.relays

    def select(
        self, name: str | None, version: str | None, request: HttpRequest
    ) -> tuple[str | None, str | None]:
        """The model whose route it is.

        Raises:
            NotFound: it is hidden from the caller, who did not name it and must not learn its name.
        """
        if name is not None and request.hides is not None and request.hides(name):
            raise NotFound(f"nothing is served at {shorten(request.scope['path'])}")
        return name, version

    def text_size(self, request: HttpRequest) -> int:
        # The body is for the handler to read.
        return 0

    def decode(self, request: HttpRequest, model: ModelView) -> tuple[InferenceRequest, Any]:
        """The HTTP request as an inference request."""
        if self._route.only_body:
            given = request.headers.get(b"content-type", b"").decode("latin-1")
            return model_call.to_body_request(self._route.handler, given, request.body), None
        scope = request.scope
        call = ModelCall(
            handler=self._route.handler,
            method=scope["method"],
            path=scope["path"],
            raw_path=scope.get("raw_path", scope["path"].encode()).decode("latin-1"),
            query=scope["query_string"].decode("latin-1"),
            headers=_given(scope["headers"], len(request.body), request.credentials),
            path_params=self._parameters,
            scheme=scope.get("scheme", "http"),
            client=list(scope["client"]) if scope.get("client") else None,
        )
        return model_call.to_request(call, request.body), None

    def encode(self, model: ModelView, response: InferenceResponse, id: str, context: Any) -> Reply:
        """Status, body and headers as the handler set them."""
        answer = model_call.from_response(response, model.name)
        given = tuple(map(tuple, answer.headers))
        # Models choose the values: long ones must not fill the memory.
        is_short = sum([len(str(text)) for each in given for text in each]) <= LONGEST_FIELDS
        fields = (_sent if is_short else _sent.__wrapped__)(given, model.name)
        # A body after a status without one would be taken for the next answer.
        body = b"" if answer.status in WITHOUT_BODY else answer.body
        return Reply(answer.status, fields, body)


def _given(
    headers: Sequence[tuple[bytes, bytes]], size: int, credentials: Collection[bytes | str]
) -> list[list[str]]:
    """The header fields of a request, whose body has been decompressed and is `size` long.

    Those with the caller's `credentials` are for the server alone.
    """
    fields = [
        [name.decode("latin-1"), value.decode("latin-1")]
        for name, value in headers
        if name not in credentials
    ]
    if not any(name == "content-encoding" for name, _ in fields):
        return fields
    kept = [each for each in fields if each[0] not in ("content-encoding", "content-length")]
    return [*kept, ["content-length", str(size)]]


@lru_cache(maxsize=256)
def _sent(headers: tuple[tuple[Any, Any], ...], model: str) -> list[tuple[bytes, bytes]]:
    """The fields of an answer as they are sent, most of which come again and again.

    Raises:
        BadModelOutput: one of them cannot be sent.
    """
    fields = [field(name, value, model) for name, value in headers]
    fields = [item for item in fields if item[0] not in FRAMING]
    # The very object, by which an answer knows that its head is made already.
    return JSON_HEADERS if fields == list(JSON_HEADERS) else fields
