"""Plain HTTP for tests: no client library comes between the test and the bytes."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

# Longer than a server with its default `infer_timeout` takes to answer, in whatever state it is.
PATIENCE = 90


class Answer(NamedTuple):
    """Status, headers (by lower-case name) and body of one answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One keep-alive connection. A body that is not bytes is sent as JSON.

    For https, `context` says who is trusted.
    """

    def __init__(
        self, url: str, timeout: float = PATIENCE, context: ssl.SSLContext | None = None
    ) -> None:
        parts = urlsplit(url)
        host = parts.hostname
        assert host is not None
        self._connection = (
            http.client.HTTPConnection(host, parts.port, timeout=timeout)
            if context is None
            else http.client.HTTPSConnection(
                *(host, parts.port),
                timeout=timeout,
                context=context,
            )
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        self.begin(method, path, body, headers)
        response = self._connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read())

    def begin(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a request without waiting for its answer."""
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        self._connection.request(method, path, body, sent)


def ask(
    url: str,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = PATIENCE,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """One request on a connection of its own."""
    with Client(url, timeout, context) as client:
        return client.ask(method, path, body, headers)


def connect(url: str, timeout: float = 10) -> socket.socket:
    """A bare connection."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout)


def send_raw(url: str, sent: bytes, half_close: bool = False, timeout: float = 10) -> Answer | None:
    """Send exactly these bytes and read one answer; None when the connection just closes."""
    with connect(url, timeout) as sock:
        sock.sendall(sent)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(sock)
        try:
            response.begin()
        except http.client.BadStatusLine:
            return None
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read())


def tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    """One input as the Open Inference Protocol writes it."""
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def request(*tensors: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A v2 inference request."""
    return {"inputs": list(tensors), **more}


def numbers(*values: float, name: str = "x") -> dict[str, Any]:
    """A v2 request of one FP64 vector."""
    return request(tensor(name, "FP64", [len(values)], list(values)))
