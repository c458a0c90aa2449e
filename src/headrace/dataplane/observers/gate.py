"""Lets calls pass that have a key, or a token, for what their route needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from headrace.access.grant import Grant, hides_all
from headrace.access.needs import KNOWN, OPEN
from headrace.dataplane.observers.observer import Observer
from headrace.errors import Forbidden, HeadraceError, RateLimited, Unauthenticated

if TYPE_CHECKING:
    from headrace.dataplane.call import Call

CHALLENGE = 'Bearer realm="headrace"'
HOW = "send an API key, in `Authorization: Bearer KEY` or in `X-API-Key: KEY`"
BEARER = b"bearer "
# Names in HTTP's headers and in gRPC's metadata.
API_KEY = (b"x-api-key", "x-api-key")
AUTHORIZATION = (b"authorization", "authorization")


class Gate(Observer):
    """Every call, of every protocol, passes here and nowhere else; what is not allowed is refused.

    `find` is given what a caller presents and returns what it grants, or raises Unauthenticated.
    What a call needs is declared by its route. One that declares nothing is refused to everybody,
    so that a new route cannot be forgotten.
    """

    def __init__(self, find: Callable[[bytes], Grant]) -> None:
        self._find = find

    def admit(self, call: Call) -> None:
        grant = self._allowed(call)
        if grant is None or grant.bucket is None:
            return
        if seconds := grant.bucket.take():
            error = RateLimited("this key has sent more requests than it may; try again later")
            error.retry_after = max(1, math.ceil(seconds))
            raise error

    def opened(self, call: Call) -> None:
        self._allowed(call)

    def _allowed(self, call: Call) -> Grant | None:
        """What allows a call; None if everybody is."""
        needs = call.needs
        if needs is None:
            raise Forbidden("nobody has decided who may call this route; this is a bug")
        if needs is OPEN:
            self._recognize(call)
            return None
        grant = self._granted(call)
        call.principal, call.hides = grant.name, grant.hides
        if needs is not KNOWN:
            if not (needs.scope in grant.scopes or needs.other in grant.scopes):
                raise Forbidden(
                    f"this needs the scope '{needs.scope}', which the key does not have"
                )
            if needs.whole and grant.hides is not None:
                raise Forbidden("this is about all models, and the key is for some of them")
        return grant

    def _recognize(self, call: Call) -> None:
        """Find out who asks where no key is needed: strangers must not see the names of models."""
        call.hides = hides_all
        try:
            grant = self._granted(call)
        except HeadraceError:
            return
        if "read" in grant.scopes:
            call.principal, call.hides = grant.name, grant.hides

    def _granted(self, call: Call) -> Grant:
        try:
            presented = _presented(call.headers)
            if presented is None:
                raise Unauthenticated(HOW)
            call.credentials, secret = presented
            return self._find(secret)
        except Unauthenticated as error:
            error.challenge = CHALLENGE
            raise


def _presented(headers: Mapping[Any, Any]) -> tuple[tuple[bytes | str, ...], bytes] | None:
    """What a caller presents, with the names of its headers; None if it presents nothing."""
    bearer = _bearer(headers)
    for name in API_KEY:
        value = headers.get(name)
        if value is not None:
            secret = _bytes(value)
            # Some clients send the same key in both.
            if bearer is not None and bearer[1] == secret:
                return (name, bearer[0]), secret
            return (name,), secret
    return None if bearer is None else ((bearer[0],), bearer[1])


def _bearer(headers: Mapping[Any, Any]) -> tuple[bytes | str, bytes] | None:
    for name in AUTHORIZATION:
        value = headers.get(name)
        if value is not None:
            text = _bytes(value)
            if text[: len(BEARER)].lower() == BEARER:
                return name, text[len(BEARER) :].strip()
    return None


def _bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
