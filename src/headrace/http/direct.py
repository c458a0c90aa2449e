"""What a connection is given to answer requests without a task, and the heads that it remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from headrace.adapters.adapter import Headers

# How many heads are remembered, each up to this many bytes long.
REMEMBERED = 1024
LONGEST_HEAD = 2048

# What the scopes of all requests with the same head share, whichever connection they come from.
OF_HEAD = (
    *("type", "asgi", "http_version", "root_path", "headers"),
    *("method", "raw_path", "query_string", "path"),
)


class Head:
    """The head of a request that needs no task: its scope, its fields by name, its body's size."""

    __slots__ = ("fields", "length", "path", "scope")

    def __init__(self, scope: dict[str, Any], fields: Headers, length: int) -> None:
        self.scope = {key: scope[key] for key in OF_HEAD}
        self.path: str = scope["path"]
        self.fields = fields
        self.length = length


class Heads:
    """Heads by their bytes: clients send the same few again and again, and each is parsed once.

    The oldest is forgotten when there are too many.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}
        self.get = self._known.get

    def remember(self, text: bytes, head: Head) -> None:
        """Remember what was parsed from this text, unless it is not one head and nothing else."""
        lines = len(head.scope["headers"]) + 2
        if (
            len(text) > LONGEST_HEAD
            or not text.startswith(b"POST ")
            or not text.count(b"\r\n") == text.count(b"\n") == lines
        ):
            return
        if len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[text] = head


class Direct(Protocol):
    """Answers requests that have arrived whole, without the cost of an ASGI task."""

    def match(self, path: str) -> Any:
        """What `direct` needs to know about a POST path; None if it cannot answer there."""

    def needs_task(self, match: Any, body: bytes) -> bool:
        """Whether the application must answer this request to a route that may stream."""

    def direct(
        self,
        connection: Any,
        match: Any,
        headers: Headers,
        body: bytes,
        answer: Callable[..., None],
    ) -> asyncio.Future[Any] | None:
        """Answer now and return None, or return the future after which `answer` is called.

        If it returns a future, it also calls `connection.settled` once that is done.
        """
