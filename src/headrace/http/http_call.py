"""A call over HTTP. Hot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cached_property
from time import monotonic
from typing import Any, Protocol, TypeVar

from headrace.access.needs import INFER
from headrace.adapters.adapter import Headers
from headrace.dataplane import Call, seconds_given
from headrace.errors import DeadlineExceeded
from headrace.http import body_members
from headrace.http.large_requests import SentRequest
from headrace.http.router import RouteMatch
from headrace.protocol.messages import InferenceRequest

Scope = dict[str, Any]
T = TypeVar("T")


class Aside(Protocol):
    """Runs a function of a module in a thread or in another process."""

    def __call__(self, work: Callable[..., T], *arguments: Any) -> Awaitable[T]: ...


class HttpCall(Call):
    """A call over HTTP: the request and, once that is decoded, everything its answer needs.

    It is the `HttpRequest` that adapters read. `shown` is the id in the answer's body.
    """

    needs = INFER
    body = b""
    request: InferenceRequest
    context: Any
    shown: str
    timeout: float | None
    # Runs what takes long, unless the request is small; `is_sent` if in another process.
    aside: Aside | None = None
    is_sent = False
    # Seconds that this has taken.
    waited = 0.0

    def __init__(self, match: RouteMatch, id: str, headers: Headers, scope: Scope) -> None:
        adapter = self.adapter = match.adapter
        self.match = match
        self.scope = scope
        super().__init__(adapter.name, match.route.path, id, scope.get("client"), headers)

    @property
    def method(self) -> str:  # type: ignore[override]
        # Read by few observers, so that the others pay nothing for it.
        method: str = self.scope["method"]
        return method

    def header(self, name: str) -> str | None:
        value = self.headers.get(name.encode("latin-1"))
        return None if value is None else value.decode("latin-1")

    def member(self, path: str) -> str | None:
        if path not in self._members:
            self._members[path] = body_members.member(self.headers, self.body, path)
        return self._members[path]

    async def read_member(self, path: str) -> None:
        """Read a member of a large body, for `member` to return."""
        assert self.aside is not None, "it is large"
        member = body_members.member
        self._members[path] = await self.aside(member, self.headers, self.body, path)

    def seen_aside(self) -> HttpCall | SentRequest:
        """The request as what runs aside sees it."""
        if not self.is_sent:
            return self
        return SentRequest(dict(self.headers), self.body, self.credentials)

    def limit(self, most: float) -> float:
        """Seconds that the request may take: what its caller allows, and `most` at most.

        Raises:
            InvalidInput: the caller's header is not a number of seconds.
        """
        given = self.header("x-request-timeout")
        return most if given is None else min(most, seconds_given(given))

    async def in_time(self, decoding: Awaitable[T], limit: float) -> T:
        """What is decoded aside, within `limit` seconds.

        Raises:
            DeadlineExceeded: it took longer.
        """
        began = monotonic()
        try:
            async with asyncio.timeout(limit):
                return await decoding
        except TimeoutError:
            raise DeadlineExceeded("the request's time ran out before it was decoded") from None
        finally:
            self.waited = monotonic() - began

    @cached_property
    def _members(self) -> dict[str, str | None]:
        # What was read of a large body is not read again.
        return {}

    def selected(self) -> tuple[str | None, str | None]:
        """The name and the version of the model that the request is for; see `Adapter.select`."""
        return self.adapter.select(self.match.name, self.match.version, self)
