"""Maps paths to the adapters that declared them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from headrace.adapters.adapter import PART, Adapter, Route
from headrace.adapters.error_bodies import open_inference_error
from headrace.errors import HeadraceError

# How many paths are remembered with their matches.
REMEMBERED = 4096
REMEMBERED_LENGTH = 256


def route_path(scope: Mapping[str, Any]) -> str:
    """The path relative to where the application is mounted."""
    path: str = scope["path"]
    root = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root) else path


class RouteMatch(NamedTuple):
    """The adapter and the route that a path leads to, and the model that it names."""

    adapter: Adapter
    route: Route
    name: str | None = None
    version: str | None = None


class Router:
    """Finds the adapter that answers a POST, and the one that gives a path's errors their form."""

    def __init__(self, adapters: tuple[Adapter, ...]) -> None:
        self.adapters = adapters
        self._routes = [
            (_pattern(route.path), adapter, route)
            for adapter in adapters
            for route in adapter.routes
        ]
        # Adapters that give errors their form on paths that answer no POST.
        self._others = [
            (_pattern(path), adapter)
            for adapter in adapters
            for path in (*adapter.error_paths, *(page.path for page in adapter.pages))
        ]
        # Of models: the paths without braces that they answer a POST to themselves.
        self.own: dict[str, RouteMatch] = {}
        # There is one instance, and it lives as long as its cache.
        self._remembered = lru_cache(REMEMBERED)(self._match)

    def match(self, path: str) -> RouteMatch | None:
        """What answers a POST to this path; None if neither an adapter nor a model does. Hot."""
        return self.declared(path) or self.own.get(path)

    def declared(self, path: str) -> RouteMatch | None:
        """The adapter and its route that answer a POST to this path; None if none does. Hot."""
        # The long paths of strangers must not fill the memory.
        return self._remembered(path) if len(path) <= REMEMBERED_LENGTH else self._match(path)

    def match_direct(self, path: str) -> RouteMatch | None:
        """As `match`, but None for routes that always stream: their requests need a task. Hot."""
        match = self.match(path)
        return None if match is None or match.route.streams else match

    def _match(self, path: str) -> RouteMatch | None:
        for pattern, adapter, route in self._routes:
            if found := pattern.fullmatch(path):
                return RouteMatch(adapter, route, **found.groupdict())
        return None

    def routes(self) -> Iterator[tuple[Adapter, Route]]:
        """All routes, in the order in which they are tried."""
        return ((adapter, route) for _, adapter, route in self._routes)

    def error_body(self, path: str, error: HeadraceError) -> tuple[int, bytes]:
        """Status and JSON body of an error on a path, in the form of its protocol."""
        match = self.match(path)
        if match is not None:
            return match.adapter.error(error)
        for pattern, adapter in self._others:
            if pattern.fullmatch(path):
                return adapter.error(error)
        return open_inference_error(error)


def _pattern(path: str) -> re.Pattern[str]:
    """A path template as a pattern; a part in braces matches anything without a slash.

    A slash at the end changes nothing, as on the routes that answer a GET. Servers on FastAPI
    redirect such a POST, and clients of theirs have come to send it.
    """
    pieces = PART.split(path)
    text = "".join(
        f"(?P<{piece}>[^/]+)" if index % 2 else re.escape(piece)
        for index, piece in enumerate(pieces)
    )
    return re.compile(f"{text}/?")
