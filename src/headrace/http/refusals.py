"""Answers to requests that are refused, with or without a protocol to refuse them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from headrace.adapters.adapter import JSON_HEADERS, HeaderList, Headers, Reply
from headrace.adapters.error_bodies import error_headers
from headrace.dataplane import Call, Calls, as_error
from headrace.errors import HeadraceError
from headrace.http.router import Router

# Status and JSON body of an error, in the form of a protocol.
ErrorForm = Callable[[HeadraceError], tuple[int, bytes]]


def collect(fields: HeaderList) -> Headers:
    """Header fields by name; a field sent more than once is joined with commas (RFC 9110 5.3)."""
    headers = dict(fields)
    if len(headers) != len(fields):
        headers = {}
        for name, value in fields:
            headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


def refusal(calls: Calls, call: Call, exc: Exception, form: ErrorForm) -> Reply:
    """End a call with an error, and the answer that says so."""
    error = as_error(exc, call.caller.request_id)
    status, body = form(error)
    calls.refused(call, error, status, len(body))
    id = call.caller.request_id.encode()
    return Reply(status, [*JSON_HEADERS, *error_headers(error), (b"x-request-id", id)], body)


class Refusals:
    """Refuses what reaches no protocol: a malformed head, a slow body, a path without a route.

    The error has the form of the protocol that the path belongs to, as far as it is known.
    """

    def __init__(self, calls: Calls, router: Router) -> None:
        self._calls = calls
        self._router = router

    def refuse(self, path: str, peer: Any, fields: HeaderList, error: Exception) -> Reply:
        """Refuse a request of which no call has been made; its path is "" where it is unknown."""
        headers = collect(fields)
        given = headers.get(b"x-request-id")
        id = None if given is None else given.decode("latin-1")
        call = self._calls.begin("http", path, id, peer, headers)
        return self.end(call, path, error)

    def end(self, call: Call, path: str, error: Exception) -> Reply:
        """Refuse a call to a path."""
        return refusal(self._calls, call, error, partial(self._router.error_body, path))
