"""The part of Starlette's `Request` that handlers use, in plain Python."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class Headers(Mapping[str, str]):
    """Header fields by name, in any case; the first of each."""

    def __init__(self, fields: list[tuple[bytes, bytes]]) -> None:
        self.raw = fields
        self._fields = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in reversed(fields)
        }

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


class QueryParams(Mapping[str, str]):
    """Query parameters by name; the last of each, or all of them by `getlist`."""

    def __init__(self, query: str) -> None:
        self._items = parse_qsl(query, keep_blank_values=True)
        self._last = dict(self._items)

    def getlist(self, name: str) -> list[str]:
        return [value for key, value in self._items if key == name]

    def __getitem__(self, name: str) -> str:
        return self._last[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._last)

    def __len__(self) -> int:
        return len(self._last)


class URL(str):
    """The URL that was requested, with its parts."""

    __slots__ = ()

    @property
    def path(self) -> str:
        return urlsplit(self).path

    @property
    def query(self) -> str:
        return urlsplit(self).query


class Request:
    """One request to a custom route, made from an ASGI scope."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self._receive = receive
        self._body: bytes | None = None
        self.method: str = scope["method"]
        self.headers = Headers(scope["headers"])
        self.query_params = QueryParams(scope["query_string"].decode("latin-1"))
        self.path_params: dict[str, Any] = scope["path_params"]

    @property
    def url(self) -> URL:
        host = self.headers.get("host", "localhost")
        query = self.scope["query_string"].decode("latin-1")
        path = self.scope["raw_path"].decode("latin-1")
        return URL(f"{self.scope['scheme']}://{host}{path}{'?' if query else ''}{query}")

    async def body(self) -> bytes:
        """The whole body."""
        if self._body is None:
            self._body = (await self._receive())["body"]
        return self._body

    async def json(self) -> Any:
        """The body read as JSON.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(await self.body())
