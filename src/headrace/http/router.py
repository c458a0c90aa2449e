"""From paths to the protocols that declared them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from headrace.adapters.adapter import PART, Adapter, Route
from headrace.adapters.error_bodies import open_inference_error
from headrace.errors import HeadraceError

# Paths that are looked up again and again; the rest are matched each time.
REMEMBERED = 4096


def route_path(scope: Mapping[str, Any]) -> str:
    """The path below the one where the application is mounted."""
    path: str = scope["path"]
    root = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root) else path


class RouteMatch(NamedTuple):
    """The protocol and the route that a path leads to, and the model that it names."""

    adapter: Adapter
    route: Route
    name: str | None = None
    version: str | None = None


class Router:
    """Finds who answers a POST, and whose form the errors of any path take."""

    def __init__(self, adapters: tuple[Adapter, ...]) -> None:
        self.adapters = adapters
        self._routes = [
            (_pattern(route.path), adapter, route)
            for adapter in adapters
            for route in adapter.routes
        ]
        # Whose form an error takes where no POST is answered.
        self._others = [
            (_pattern(path), adapter)
            for adapter in adapters
            for path in (*adapter.error_paths, *(page.path for page in adapter.pages))
        ]
        # An instance is made once, and lives as long as its cache.
        self.match = lru_cache(REMEMBERED)(self._match)
        self.match_direct = lru_cache(REMEMBERED)(self._match_direct)

    def _match(self, path: str) -> RouteMatch | None:
        """Who answers a POST to this path; None when no protocol does."""
        for pattern, adapter, route in self._routes:
            if found := pattern.fullmatch(path):
                return RouteMatch(adapter, route, **found.groupdict())
        return None

    def _match_direct(self, path: str) -> RouteMatch | None:
        """The same, for requests that need no task: their answer is not always a stream."""
        match = self.match(path)
        return None if match is None or match.route.streams else match

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
    """A template as an expression; a part in braces is anything without a slash."""
    pieces = PART.split(path)
    text = "".join(
        f"(?P<{piece}>[^/]+)" if index % 2 else re.escape(piece)
        for index, piece in enumerate(pieces)
    )
    return re.compile(text)
