"""A WSGI application, such as one of Flask or Django, as an ASGI application."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any, Callable

from headrace.services.asgi_body import read_body
from headrace.services.thread_call import call_in_thread


class WsgiApp:
    """Calls the application in a thread of the running loop, and sends each piece as it yields it.

    A caller who leaves ends it at the next piece, or at the one that is being sent.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError("a WSGI application answers requests only")
        body = await read_body(receive)
        answer = _Answer(send, asyncio.get_running_loop())
        submit = partial(asyncio.get_running_loop().run_in_executor, None)
        work = partial(self._call, _environ(scope, body), answer)
        await call_in_thread(submit, work, answer.leave)

    def _call(self, environ: dict[str, Any], answer: _Answer) -> None:
        pieces = self._app(environ, answer.start)
        try:
            for piece in pieces:
                # A generator has called `start` by now, as the specification demands.
                if piece:
                    answer.write(piece)
            answer.end()
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()


class _Answer:
    """What the application says, sent on the loop from the application's thread."""

    def __init__(self, send: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._send = send
        self._loop = loop
        self._head: dict[str, Any] | None = None
        self._has_begun = False
        self._is_left = False
        self._sending: Future[Any] | None = None

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """`start_response` of WSGI."""
        if exc_info is not None and self._has_begun:
            raise exc_info[1].with_traceback(exc_info[2])
        if exc_info is None and self._head is not None:
            raise RuntimeError("start_response was called twice")
        self._head = {
            "type": "http.response.start",
            "status": int(status.partition(" ")[0]),
            "headers": [(name.encode("latin-1"), v.encode("latin-1")) for name, v in headers],
        }
        return self.write

    def write(self, piece: bytes) -> None:
        """Send a piece, and wait until there is room for the next."""
        self._begin()
        self._wait_for({"type": "http.response.body", "body": piece, "more_body": True})

    def end(self) -> None:
        """Send the end."""
        self._begin()
        self._wait_for({"type": "http.response.body", "body": b"", "more_body": False})

    def leave(self) -> None:
        """The caller has left: end the send that the application waits for, and refuse others."""
        self._is_left = True
        if self._sending is not None:
            self._sending.cancel()

    def _begin(self) -> None:
        if self._head is None:
            raise RuntimeError("the application did not call start_response")
        if not self._has_begun:
            self._has_begun = True
            self._wait_for(self._head)

    def _wait_for(self, message: dict[str, Any]) -> None:
        if self._is_left:
            raise ConnectionAbortedError("the caller left")
        sending = asyncio.run_coroutine_threadsafe(self._send(message), self._loop)
        self._sending = sending
        if self._is_left:
            # It was not there yet for `leave` to cancel.
            sending.cancel()
        try:
            sending.result()
        except CancelledError:
            raise ConnectionAbortedError("the caller left") from None


def _environ(scope: Any, body: bytes) -> dict[str, Any]:
    """The request as WSGI has it; text of paths and headers is Latin-1, whatever it means."""
    root = scope.get("root_path", "")
    path = scope["path"]
    inner = path[len(root) :] if root and path.startswith(root) else path
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root.encode().decode("latin-1"),
        "PATH_INFO": inner.encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if scope.get("client"):
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = map(str, scope["client"])
    for name, value in scope["headers"]:
        # Or a client's `X_Forwarded_For` would be taken for a proxy's `X-Forwarded-For`.
        if b"_" in name:
            continue
        key = name.decode("latin-1").upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    # The body may have come in chunks, or compressed; here it is whole.
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    host, _, port = environ.get("HTTP_HOST", "").rpartition(":")
    is_port = port.isdigit()
    environ["SERVER_NAME"] = (host if is_port else environ.get("HTTP_HOST", "")) or "localhost"
    default = "443" if environ["wsgi.url_scheme"] == "https" else "80"
    environ["SERVER_PORT"] = port if is_port else default
    return environ
