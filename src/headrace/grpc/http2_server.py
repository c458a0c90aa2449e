"""A gRPC server on the event loop, which takes the handlers of grpcio's servers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import Any

import grpc

from headrace.connection_limit import ConnectionLimit
from headrace.grpc.http2_connection import Http2Connection
from headrace.grpc.http2_frames import DEFAULT_WINDOW, MAX_WINDOW
from headrace.grpc.message_reader import Reception
from headrace.receive_budget import ReceiveBudget
from headrace.settings import ServerSettings
from headrace.sockets import BACKLOG, waiting
from headrace.tls.certificates import GRPC, Certificates
from headrace.tls.tls_transport import TlsDoor

SWEEP_INTERVAL = 1.0
# Seconds that cut calls and closed connections have to send their last bytes.
LAST_BYTES = 0.5
# A peer that is silent for this long is asked by the kernel whether it is still there: seconds,
# seconds between two questions, and questions.
KEEP_ALIVE = (60, 10, 6)


class Http2Server:
    """Serves registered handlers on sockets; deadlines are met within `sweep_interval` seconds.

    With `certificates`, it speaks TLS.
    """

    def __init__(
        self,
        settings: ServerSettings,
        sweep_interval: float = SWEEP_INTERVAL,
        budget: ReceiveBudget | None = None,
        certificates: Certificates | None = None,
        limit: ConnectionLimit | None = None,
    ) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.handlers: dict[str, grpc.RpcMethodHandler] = {}
        # No window can be larger than the largest message, and what else a stream may send.
        most = min(settings.max_body_size, MAX_WINDOW - DEFAULT_WINDOW)
        self.reception = Reception(most, budget or ReceiveBudget(settings.max_receive_bytes))
        self.connections: set[Http2Connection] = set()
        self.limit = limit or ConnectionLimit(settings.max_connections)
        self.tasks: set[asyncio.Task[None]] = set()
        self._connect: Callable[[], asyncio.BaseProtocol] = self._new_connection
        self._tls: TlsDoor | None = None
        if certificates is not None:
            self._connect = self._tls = TlsDoor(
                *(certificates, GRPC, self._new_connection),
                # Whatever has the form of HTTP/2 would make clients connect again at once.
                hint=b"",
                timeout=settings.header_timeout,
                # Once it is open, a connection counts with all others.
                most=max(1, self.limit.most // 4),
            )
        self._sweep_interval = sweep_interval
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[Any]] = []
        self._sweeping: asyncio.Task[None] | None = None
        self._is_over = asyncio.Event()

    def add_registered_method_handlers(
        self, service: str, handlers: dict[str, grpc.RpcMethodHandler]
    ) -> None:
        """Register the methods of a service, as generated code does."""
        for name, handler in handlers.items():
            self.handlers[f"/{service}/{name}"] = handler

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        """Nothing to do: generated code registers the same methods by name as well."""

    async def start(self, sock: socket.socket) -> None:
        """Accept connections on a listening socket, which the server owns from now on."""
        # Connections inherit this.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            for option, value in zip(
                (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT),
                KEEP_ALIVE,
                strict=True,
            ):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        server = await self.loop.create_server(self._connect, sock=sock, backlog=BACKLOG)
        self._servers.append(server)
        self._sockets.append(sock)
        self._sweeping = self.loop.create_task(self._sweep())

    def _new_connection(self) -> Http2Connection:
        return Http2Connection(self)

    def close_listeners(self) -> None:
        """Take no more connections, and no more calls on those that are open."""
        for sock in self._sockets:
            for accepted in waiting(sock):
                opening = self.loop.connect_accepted_socket(self._connect, accepted)
                self._accepting.append(self.loop.create_task(opening))
        self._sockets.clear()
        for server in self._servers:
            server.close()
        self._servers.clear()
        for connection in list(self.connections):
            connection.go_away()

    def lost(self, connection: Http2Connection) -> None:
        """A connection is closed."""
        self.connections.discard(connection)
        self.limit.remove(connection)
        if not self.connections:
            self._is_over.set()

    async def stop(self, grace: float | None) -> None:
        """Stop listening, give calls `grace` seconds to finish, and cut what is left.

        A second call with less grace cuts off what the first still waits for.
        """
        self.close_listeners()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for connection in list(self.connections):
            connection.go_away()
        if self.connections and grace:
            self._is_over.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._is_over.wait(), grace)
        await self._cut()

    async def _cut(self) -> None:
        if self._tls is not None:
            self._tls.abort()
        if self._sweeping is not None:
            self._sweeping.cancel()
        running: set[asyncio.Future[Any]] = set(self.tasks)
        for connection in self.connections:
            running |= {each.answering for each in connection.streams.values() if each.answering}
        for each in running:
            each.cancel()
        if running:
            await asyncio.wait(running, timeout=LAST_BYTES)
        for connection in list(self.connections):
            connection.close()
        if self.connections:
            self._is_over.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._is_over.wait(), LAST_BYTES)
        for connection in list(self.connections):
            connection.abort()
        self.reception.unpacking.shutdown(wait=False, cancel_futures=True)
        self._is_over.set()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_interval)
            now = self.loop.time()
            for connection in list(self.connections):
                try:
                    connection.expire(now)
                except Exception as exc:
                    connection.fail(exc)
