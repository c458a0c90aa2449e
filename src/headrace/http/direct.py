"""What a connection is given to answer requests with, besides the application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from headrace.adapters.adapter import Reply
from headrace.errors import HeadraceError

# Answers a request that is refused while it is being received. Takes its path, scope and error;
# returns the answer and the request's id.
Refuse = Callable[[str, dict[str, Any], HeadraceError], tuple[Reply, str]]


class Direct(Protocol):
    """Answers requests that have arrived whole, without the cost of an ASGI task."""

    def match(self, path: str) -> Any:
        """What `direct` needs to know about a POST path; None if it cannot answer there."""

    def needs_task(self, match: Any, body: bytes) -> bool:
        """Whether the application must answer this request to a route that may stream."""

    def direct(
        self, connection: Any, match: Any, body: bytes, answer: Callable[..., None]
    ) -> asyncio.Future[Any] | None:
        """Answer now and return None, or return the future after which `answer` is called.

        If it returns a future, it also calls `connection.settled` once that is done.
        """
