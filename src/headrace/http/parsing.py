"""Helpers for httptools' parser: stand-ins for it, and the meaning of its results."""

from __future__ import annotations

import asyncio
import logging
import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace.errors import HeadraceError, InvalidInput

logger = logging.getLogger("headrace.http")

# A refused client may still be sending; this much of it is read and dropped.
LINGER_BYTES = 256 * 1024 * 1024
REMEMBERED_LENGTH = 256


class Discard:
    """Stands in for the parser of a refused connection."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._left = LINGER_BYTES

    def feed_data(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()


class KnownHead:
    """Passes parser callbacks on to a connection, except those for a head that it already has."""

    def __init__(self, connection: HttpToolsProtocol) -> None:
        self._connection = connection
        self._known = True
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete

    def on_message_begin(self) -> None:
        if not self._known:
            self._connection.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._known:
            self._connection.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._known:
            self._connection.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._known:
            self._known = False
        else:
            self._connection.on_headers_complete()


class Target(NamedTuple):
    """A request target: its path as sent and as text, and its query string."""

    raw_path: bytes
    query: bytes
    path: str


def read_target(target: bytes) -> Target:
    """Read a request target, in origin or absolute form.

    Raises:
        InvalidInput: it has no path.
    """
    # The same few recur; a stranger's long ones must not fill the memory.
    return _remembered(target) if len(target) <= REMEMBERED_LENGTH else _read_target(target)


def _read_target(target: bytes) -> Target:
    if target[:1] == b"/" and b"#" not in target:
        raw_path, _, query = target.partition(b"?")
    else:
        try:
            parsed = httptools.parse_url(target)
        except httptools.HttpParserInvalidURLError:
            parsed = None
        if parsed is None or not parsed.path:
            raise InvalidInput("malformed HTTP request: the request target has no path")
        raw_path, query = parsed.path, parsed.query or b""
    path = raw_path.decode("ascii")
    return Target(raw_path, query, _unquoted(path) if "%" in path else path)


def _unquoted(path: str) -> str:
    """A path with its percent-encoding decoded, but for slashes.

    An encoded slash is a part of a segment (RFC 3986 2.2). If it became one that divides segments,
    a path that a proxy has let pass would lead to a route that it would not have.
    """
    return "%2F".join(unquote(part) for part in _ENCODED_SLASH.split(path))


_ENCODED_SLASH = re.compile("%2f", re.IGNORECASE)


_remembered = lru_cache(maxsize=1024)(_read_target)


def cause(error: httptools.HttpParserError) -> HeadraceError:
    """What a parser error means: a `HeadraceError` from a callback, or malformed HTTP."""
    if isinstance(error.__context__, HeadraceError):
        return error.__context__
    if isinstance(error, httptools.HttpParserCallbackError):
        logger.error("a parser callback failed", exc_info=error)
        return HeadraceError("the request could not be read")
    return InvalidInput(f"malformed HTTP request: {error}")
