"""How operations reach a server: HTTP over httpx, blocking or async, and what drives a flow."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from headrace.client import operations as ops
from headrace.client import rest
from headrace.client.client_errors import ClientError, ConnectionFailed, TimedOut
from headrace.client.flows import Call, Flow, Pause

try:
    import httpx
except ImportError as _missing:
    raise ImportError("headrace.client needs httpx: pip install 'headrace[client]'") from _missing

T = TypeVar("T")

# At DEBUG, everything sent and received.
wire = logging.getLogger("headrace.client.wire")

# Compressing numbers costs more than sending them; over a slow link, ask for it in `headers`.
HEADERS = {"accept": "application/json, application/octet-stream", "accept-encoding": "identity"}
IDLE_CONNECTIONS = 20
# The variable with the API key of clients that are given none.
API_KEY = "HEADRACE_API_KEY"
_SENDABLE = re.compile(r"[!-~]+")
_UNSENDABLE = re.compile(r"[\r\n\0]")


def with_key(headers: Mapping[str, str] | None, key: str | None) -> dict[str, str]:
    """Headers with an API key: this one, or that of the environment, unless they say who asks.

    The key may end with a line feed, as files with keys do.

    Raises:
        ValueError: a header cannot be sent. The message is ours: those of httpx and grpcio quote
            the value, which may be a key.
    """
    found = dict(headers or {})
    key = (os.environ.get(API_KEY, "") if key is None else key).strip()
    if key and not any(name.lower() in ("authorization", "x-api-key") for name in found):
        if not _SENDABLE.fullmatch(key):
            raise ValueError(
                f"api_key: expected an API key, in {API_KEY} or as an argument, got a text with "
                "spaces, control characters or others that are not ASCII"
            )
        found["Authorization"] = f"Bearer {key}"
    for name, value in found.items():
        if _UNSENDABLE.search(value):
            raise ValueError(f"headers: expected one line, got a value with several in '{name}'")
    return found


@dataclass(frozen=True)
class Options:
    """How to connect.

    `verify` is the file of the authorities to trust, False to accept any certificate, or an SSL
    context. `cert` is the file of the client's own certificate and its key, or a pair of files.
    `transport` replaces the network: an `httpx.ASGITransport` calls an application in the same
    process.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    verify: bool | str | Path | ssl.SSLContext = True
    transport: Any = None
    cert: str | Path | tuple[str | Path, str | Path] | None = None

    def for_httpx(self, url: str) -> dict[str, Any]:
        return {
            "base_url": url,
            "headers": {**HEADERS, **self.headers},
            "verify": self._for_ssl(),
            "transport": self.transport,
            "limits": httpx.Limits(max_keepalive_connections=IDLE_CONNECTIONS),
        }

    def cert_files(self) -> tuple[str, str] | None:
        """The files of the client's certificate and of its key."""
        if self.cert is None:
            return None
        named = self.cert if isinstance(self.cert, tuple) else (self.cert, self.cert)
        return os.fspath(named[0]), os.fspath(named[1])

    def _for_ssl(self) -> bool | ssl.SSLContext:
        """What httpx takes.

        Raises:
            ValueError: a file is missing, or not what it should be.
        """
        files = self.cert_files()
        if isinstance(self.verify, ssl.SSLContext):
            if files is not None:
                raise ValueError("cert: expected it in the SSL context that verify is")
            return self.verify
        if isinstance(self.verify, bool) and files is None:
            return self.verify
        if isinstance(self.verify, bool):
            context = httpx.create_ssl_context(self.verify)
        else:
            context = _trusting(os.fspath(self.verify))
        if files is not None:
            try:
                context.load_cert_chain(*files)
            except OSError as error:
                raise ValueError(
                    f"cert: expected a certificate and its key in {' and '.join(set(files))}: "
                    f"{error.strerror or error}"
                ) from error
        return context


def _trusting(file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:
        raise ValueError(
            f"verify: expected certificates of authorities in '{file}': {error.strerror or error}"
        ) from error


class Transport(Protocol):
    """Performs one operation at a time, blocking."""

    def perform(self, operation: ops.Operation, timeout: float | None) -> Any:
        """Return the value of the operation, or raise its `ClientError`."""

    def close(self) -> None:
        """Close the connections."""


class AsyncTransport(Protocol):
    """Performs operations in an event loop."""

    async def perform(self, operation: ops.Operation, timeout: float | None) -> Any:
        """Return the value of the operation, or raise its `ClientError`."""

    async def close(self) -> None:
        """Close the connections."""


class HttpTransport:
    """REST over a pool of keep-alive connections, for threads."""

    def __init__(self, url: str, options: Options) -> None:
        self._http = httpx.Client(**options.for_httpx(url))

    def perform(self, operation: ops.Operation, timeout: float | None) -> Any:
        request = rest.request_of(operation, timeout)
        _log_sent(request)
        with _translated(str(self._http.base_url), timeout):
            answer = self._http.request(
                request.method,
                request.path,
                content=request.body,
                headers=request.headers,
                timeout=timeout,
            )
        _log_received(answer)
        return rest.value_of(operation, answer.status_code, answer.headers, answer.content)

    def close(self) -> None:
        self._http.close()


class AsyncHttpTransport:
    """REST over a pool of keep-alive connections, for one event loop."""

    def __init__(self, url: str, options: Options) -> None:
        self._http = httpx.AsyncClient(**options.for_httpx(url))

    async def perform(self, operation: ops.Operation, timeout: float | None) -> Any:
        request = rest.request_of(operation, timeout)
        _log_sent(request)
        with _translated(str(self._http.base_url), timeout):
            # httpx limits the time of each step; this limits their sum.
            async with asyncio.timeout(timeout):
                answer = await self._http.request(
                    request.method,
                    request.path,
                    content=request.body,
                    headers=request.headers,
                    timeout=timeout,
                )
        _log_received(answer)
        return rest.value_of(operation, answer.status_code, answer.headers, answer.content)

    async def close(self) -> None:
        await self._http.aclose()


def drive(flow: Flow[T], transport: Transport) -> T:
    """Run a flow to its end, blocking."""
    try:
        step = next(flow)
        while True:
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                step = next(flow)
                continue
            try:
                value = transport.perform(*step)
            except ClientError as error:
                step = flow.throw(error)
            else:
                step = flow.send(value)
    except StopIteration as done:
        value_of_flow: T = done.value
        return value_of_flow


async def drive_async(flow: Flow[T], transport: AsyncTransport) -> T:
    """Run a flow to its end in an event loop."""
    step: Call | Pause
    try:
        step = next(flow)
        while True:
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                step = next(flow)
                continue
            try:
                value = await transport.perform(*step)
            except ClientError as error:
                step = flow.throw(error)
            else:
                step = flow.send(value)
    except StopIteration as done:
        value_of_flow: T = done.value
        return value_of_flow


def _log_sent(request: rest.HttpRequest) -> None:
    wire.debug("sent %s %s: %s", request.method, request.path, request.body)


def _log_received(answer: httpx.Response) -> None:
    wire.debug("received %d: %s", answer.status_code, answer.content)


@contextmanager
def _translated(url: str, timeout: float | None) -> Iterator[None]:
    """The one place where httpx's exceptions become the client's."""
    try:
        yield
    except (httpx.TimeoutException, TimeoutError) as error:
        within = "in time" if timeout is None else f"within {timeout:.3g} s"
        raise TimedOut(f"the server did not answer {within}") from error
    except httpx.UnsupportedProtocol as error:
        raise ConnectionFailed(f"{url}: not the address of a server: {error}") from error
    except httpx.RequestError as error:
        reason = str(error) or type(error).__name__
        raise ConnectionFailed(
            f"the server at {url} cannot be reached: {reason}{_hint(error)}"
        ) from error


def _hint(error: httpx.RequestError) -> str:
    """What a failed connection suggests."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "; `verify` takes the file of the authorities to trust"
    if "CERTIFICATE_REQUIRED" in str(error):
        return "; `cert` takes the files of a certificate of yours and its key"
    if "WRONG_VERSION_NUMBER" in str(error):
        return "; does it use TLS? Without it, the address begins with http://"
    if isinstance(error, httpx.RemoteProtocolError) and "illegal" in str(error).lower():
        return "; what answers there does not speak HTTP/1.1: is it the port of gRPC (grpc://)?"
    if isinstance(error, httpx.ConnectError):
        return "; is it running, and is this its address?"
    return ""
