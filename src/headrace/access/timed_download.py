"""Reads a URL within a time, however slowly its server answers.

The timeout of a socket is for each operation: a server that sends a byte now and then could keep
its reader for hours.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
import urllib.request
from functools import partial
from typing import Any


def read(url: str, timeout: float, largest: int) -> tuple[bytes, str]:
    """At most `largest` bytes of what is at a URL, and the URL at which they were in the end.

    Raises:
        OSError, ValueError, http.client.HTTPException: it was not read within `timeout` seconds,
            or cannot be read. Looking up the name of the server may take longer.
    """
    deadline = time.monotonic() + timeout
    opener = urllib.request.build_opener(_Plain(deadline), _Secured(deadline))
    with opener.open(url, timeout=timeout) as answer:
        return answer.read(largest), answer.url


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("it was not read in time")
    return left


class _Stream(io.RawIOBase):
    """What a socket receives until a deadline."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._socket = sock
        # As long as this is open, so is the socket.
        self._raw: Any = sock.makefile("rb", 0)
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        self._socket.settimeout(_left(self._deadline))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, deadline: float, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Stream(sock, deadline))


def _connection(kind: Any, deadline: float, host: str, **options: Any) -> Any:
    made = kind(host, **{**options, "timeout": _left(deadline)})
    made.response_class = partial(_Response, deadline=deadline)
    return made


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_connection, http.client.HTTPConnection, self._deadline), req)


class _Secured(urllib.request.HTTPSHandler):
    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_connection, http.client.HTTPSConnection, self._deadline), req)
