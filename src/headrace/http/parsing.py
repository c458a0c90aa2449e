"""Small pieces around httptools' parser: stand-ins for it, and what its results mean."""

from __future__ import annotations

import asyncio
import logging

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace.errors import HeadraceError, InvalidInput

logger = logging.getLogger("headrace.http")

# A refused client may still be sending; this much of it is read and dropped.
LINGER_BYTES = 256 * 1024 * 1024


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
    """Passes parser callbacks on to a connection, except those of one head it knows already."""

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


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Path and query string of a request target, in origin or absolute form."""
    if target[:1] == b"/" and b"#" not in target:
        path, _, query = target.partition(b"?")
        return path, query
    try:
        parsed = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        parsed = None
    if parsed is None or not parsed.path:
        raise InvalidInput("malformed HTTP request: the request target has no path")
    return parsed.path, parsed.query or b""


def cause(error: httptools.HttpParserError) -> HeadraceError:
    """What a parser error means: one of ours that a callback raised, or malformed HTTP."""
    if isinstance(error.__context__, HeadraceError):
        return error.__context__
    if isinstance(error, httptools.HttpParserCallbackError):
        logger.error("a parser callback failed", exc_info=error)
        return HeadraceError("the request could not be read")
    return InvalidInput(f"malformed HTTP request: {error}")
