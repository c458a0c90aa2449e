"""The HTTP transport's sockets and connections, from `bind` to the last answer of a drain."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace import garbage
from headrace.connection_limit import ConnectionLimit
from headrace.http.connection import Connection
from headrace.http.cycle import AnswerHeads
from headrace.http.direct import Direct, Heads
from headrace.http.direct_connection import DirectConnection
from headrace.http.half_closed import HalfClosed
from headrace.http.refusals import Refuse
from headrace.receive_budget import ReceiveBudget
from headrace.settings import ServerSettings
from headrace.sockets import BACKLOG, waiting
from headrace.tls.certificates import HTTP, Certificates
from headrace.tls.tls_transport import TlsDoor

logger = logging.getLogger("headrace.http")

SWEEP_INTERVAL = 1.0
FLUSH_INTERVAL = 0.01
# The answer to a client that does not speak TLS on a port that does.
HINT = b"this port speaks TLS: its addresses begin with https\n"
SPEAK_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(HINT), HINT)
)
# Seconds in which the request on a connection that was just opened is expected to arrive.
ARRIVALS = 0.2


class Listener:
    """Serves an ASGI application on sockets that `bind` opened.

    To drain it: set `announce_close`, call `close_listeners()`, await `shut_down_connections()`,
    wait until `in_flight()` is empty, and call `stop()`, in this order.
    """

    def __init__(
        self,
        app: Any,
        settings: ServerSettings,
        budget: ReceiveBudget | None = None,
        limit: ConnectionLimit | None = None,
    ) -> None:
        self._direct: Direct | None = getattr(app, "inference", None)
        self._settings = settings
        self._config = Config(
            app,
            http=HttpToolsProtocol,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        self._config.load()
        self._state = AnswerHeads(
            HalfClosed.of(asyncio.get_running_loop()),
            budget or ReceiveBudget(settings.max_receive_bytes),
            limit or ConnectionLimit(settings.max_connections),
        )
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._connect: Callable[[], asyncio.BaseProtocol]
        self._tls: TlsDoor | None = None
        self._accepting: list[asyncio.Task[Any]] = []
        self._ticks: asyncio.Task[None] | None = None
        self._announce_close = False

    @classmethod
    async def start(
        cls,
        app: Any,
        sockets: Iterable[socket.socket],
        settings: ServerSettings,
        refuse: Refuse,
        sweep_interval: float = SWEEP_INTERVAL,
        budget: ReceiveBudget | None = None,
        certificates: Certificates | None = None,
        limit: ConnectionLimit | None = None,
    ) -> Listener:
        """Accept connections on `sockets`, which the listener owns from now on.

        `refuse` answers requests that are refused while they are being received.
        Deadlines are met within `sweep_interval` seconds. What is received counts in `budget`,
        and connections in `limit`, which other listeners may share. With `certificates`, it speaks
        TLS.
        """
        self = cls(app, settings, budget, limit)
        self._refresh_headers()
        loop = asyncio.get_running_loop()
        arguments = (self._config, self._state, settings, refuse, loop)
        connect: Callable[[], Connection] = functools.partial(Connection, *arguments)
        if self._direct is not None:
            connect = functools.partial(
                DirectConnection, *arguments, direct=self._direct, heads=Heads()
            )
        self._connect = connect
        if certificates is not None:
            self._connect = self._tls = TlsDoor(
                *(certificates, HTTP, connect),
                hint=SPEAK_TLS,
                timeout=settings.header_timeout,
                # Once it is open, a connection counts with all others.
                most=max(1, self._state.limit.most // 4),
            )
        for sock in sockets:
            server = await loop.create_server(self._connect, sock=sock, backlog=BACKLOG)
            self._servers.append(server)
            self._sockets.append(sock)
        self._ticks = loop.create_task(self._tick(sweep_interval))
        return self

    @property
    def announce_close(self) -> bool:
        """Whether every answer announces that the connection closes."""
        return self._announce_close

    @announce_close.setter
    def announce_close(self, value: bool) -> None:
        self._announce_close = value
        self._refresh_headers()

    @property
    def connections(self) -> set[Connection]:
        """The open connections."""
        return cast("set[Connection]", self._state.connections)

    def in_flight(self) -> set[asyncio.Task[None]]:
        """The requests being answered; the set is live."""
        return self._state.tasks

    def close_listeners(self) -> None:
        """Stop accepting connections; those that are open stay open."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            for accepted in waiting(sock):
                opening = loop.connect_accepted_socket(self._connect, accepted)
                self._accepting.append(loop.create_task(opening))
        self._sockets.clear()
        for server in self._servers:
            server.close()

    async def shut_down_connections(self) -> None:
        """Close idle connections; the others close after their answer, which announces it.

        A connection that has sent nothing yet may have a request on its way, and is idle only if
        that has not arrived after a moment.
        """
        self.announce_close = True
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for connection in list(self.connections):
            connection.shutdown()
        loop = asyncio.get_running_loop()
        moment = loop.time() + ARRIVALS
        while self._has_new() and loop.time() < moment:
            await asyncio.sleep(FLUSH_INTERVAL)
        for connection in list(self.connections):
            connection.shutdown(spare_new=False)

    def _has_new(self) -> bool:
        """Whether the first request of a connection may be on its way."""
        shaking = self._tls is not None and self._tls.handshakes
        return bool(shaking) or any(each.is_new for each in self.connections)

    async def flush(self, deadline: float) -> int:
        """Wait until all answers are sent; return how many connections are behind at `deadline`."""
        loop = asyncio.get_running_loop()
        while unsent := [each for each in self.connections if each.unsent]:
            if loop.time() >= deadline:
                return len(unsent)
            await asyncio.sleep(FLUSH_INTERVAL)
        return 0

    async def stop(self) -> None:
        """Stop what is left: listeners, connections, and the tasks that outlive them."""
        self.close_listeners()
        if self._ticks is not None:
            self._ticks.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticks
        if self._tls is not None:
            self._tls.abort()
        for connection in list(self.connections):
            connection.transport.abort()
        # Requests notice the lost connection first, and most end on their own.
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=0.1)
        for task in list(self._state.tasks):
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)
        if self._state.half_closed is not None:
            self._state.half_closed.close()

    async def _tick(self, interval: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(interval)
            self._refresh_headers()
            now = loop.time()
            for connection in list(self.connections):
                if connection.deadline <= now:
                    _expire(connection, now)
            if self._state.budget.leaves_memory():
                # Not awaited: deadlines are met whatever else the threads have to do.
                loop.run_in_executor(None, garbage.give_back_free_memory)

    def _refresh_headers(self) -> None:
        self._state.refresh(formatdate(time.time(), usegmt=True), self._announce_close)


def _expire(connection: Connection, now: float) -> None:
    """Have a connection handle its deadline; one that cannot must not end those of all others."""
    try:
        connection.expire(now)
    except Exception:
        logger.exception("a connection failed at its deadline; this is a bug")
        connection.transport.abort()
