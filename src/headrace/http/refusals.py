"""Answers to refused requests, whether or not they reached an adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from headrace.access.needs import KNOWN, OPEN
from headrace.adapters.adapter import JSON_HEADERS, Reply
from headrace.adapters.error_bodies import error_headers
from headrace.dataplane import Call, Calls, as_error
from headrace.errors import HeadraceError
from headrace.http.header_fields import collect, given_id, sent
from headrace.http.router import Router, route_path

# In the scope of a request: its call.
CALL = "headrace.call"
# Status and JSON body of an error, in the form of a protocol.
ErrorForm = Callable[[HeadraceError], tuple[int, bytes]]
# Answers a request that is refused while it is being received. Takes its path, scope and error;
# returns the answer and the request's id.
Refuse = Callable[[str, dict[str, Any], HeadraceError], tuple[Reply, str]]


def refusal(calls: Calls, call: Call, exc: Exception, form: ErrorForm) -> Reply:
    """End a call with an error, and return the answer that reports it."""
    error = as_error(exc, call.request_id)
    fields = JSON_HEADERS
    if error.answer is None:
        status, body = form(error)
    else:
        status, given, body = error.answer
        fields = sent(given)
    calls.refused(call, error, status, len(body))
    return Reply(status, [*fields, *error_headers(error)], body)


class Refusals:
    """Refuses what reaches no adapter: a malformed head, a slow body, a path without a route.

    The error has the form of the protocol that the path belongs to, if that is known.
    """

    def __init__(self, calls: Calls, router: Router) -> None:
        self._calls = calls
        self._router = router

    def refuse(self, path: str, scope: Mapping[str, Any], error: Exception) -> tuple[Reply, str]:
        """Refuse the request of a scope; returns the answer and the request id.

        A request that is not a call yet becomes one, which observers may refuse in their own
        words. `path` is "" if it is unknown.
        """
        call: Call | None = scope.get(CALL)
        if call is None:
            call = self._call(path, scope)
            try:
                self._calls.admit(call)
            except Exception as refused:
                error = refused
        form = partial(self._router.error_body, path)
        return refusal(self._calls, call, error, form), call.request_id

    def admitted(self, scope: dict[str, Any]) -> Call:
        """The call of a request that is about to be refused, which depends on who is calling.

        Raises:
            HeadraceError: observers refuse it.
        """
        call = scope[CALL] = self._call(route_path(scope), scope)
        self._calls.admit(call)
        return call

    def _call(self, path: str, scope: Mapping[str, Any]) -> Call:
        headers = collect(scope["headers"])
        match = self._router.match(path)
        route = "" if match is None else match.route.path
        id = self._calls.request_id(given_id(headers))
        call = Call("http", route, id, scope.get("client"), headers)
        call.method = scope.get("method", "unknown")
        # Without a path, there may be no headers to say who is calling.
        call.needs = KNOWN if path else OPEN
        return call
