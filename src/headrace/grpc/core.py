"""Chooses the HTTP/2 implementation for gRPC: the server's own, or grpcio's.

Both take the same servicer: method handlers over bytes, and a context.
"""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import Any, Protocol

import grpc

from headrace.connection_limit import ConnectionLimit
from headrace.errors import ConfigurationError
from headrace.grpc.http2_connection import MAX_STREAMS
from headrace.grpc.http2_server import KEEP_ALIVE, Http2Server
from headrace.grpc.restarted_server import RestartedServer
from headrace.receive_budget import ReceiveBudget
from headrace.settings import ServerSettings
from headrace.sockets import bind
from headrace.tls.certificates import Certificates, Contents

# The options of grpcio cannot hold larger numbers, and no gRPC message is larger.
LARGEST_OPTION = 2**31 - 1


class Core(Protocol):
    """A server of gRPC, not yet listening."""

    def register(self, service: str, handlers: dict[str, grpc.RpcMethodHandler]) -> None:
        """Serve the methods of a service."""

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which is a free one if `port` is 0.

        Raises:
            ConfigurationError: the address is unknown, taken or not allowed.
        """

    async def stop(self, grace: float | None) -> None:
        """Take no more calls, give those in flight `grace` seconds, and cut what is left."""


class NativeCore:
    """The server's own."""

    def __init__(
        self,
        settings: ServerSettings,
        budget: ReceiveBudget | None = None,
        certificates: Certificates | None = None,
        limit: ConnectionLimit | None = None,
    ) -> None:
        self._server = Http2Server(settings, budget=budget, certificates=certificates, limit=limit)

    def register(self, service: str, handlers: dict[str, grpc.RpcMethodHandler]) -> None:
        self._server.add_registered_method_handlers(service, handlers)

    async def start(self, host: str, port: int) -> int:
        try:
            sock = bind(host, port)
        except ConfigurationError as error:
            raise ConfigurationError(f"{error.message} (--grpc-port)") from error.__cause__
        await self._server.start(sock)
        found: int = sock.getsockname()[1]
        return found

    async def stop(self, grace: float | None) -> None:
        await self._server.stop(grace)


class GrpcioCore:
    """grpcio's."""

    def __init__(
        self,
        settings: ServerSettings,
        connections: int,
        certificates: Certificates | None = None,
    ) -> None:
        self._server = RestartedServer(_options(settings, connections))
        self._certificates = certificates

    def register(self, service: str, handlers: dict[str, grpc.RpcMethodHandler]) -> None:
        handler = grpc.method_handlers_generic_handler(service, handlers)
        self._server.add_generic_rpc_handlers((handler,))

    async def start(self, host: str, port: int) -> int:
        # grpcio would say the same in words of its own, on lines of its own.
        if reason := _why_not(host, port):
            await self._server.stop(None)
            raise _unusable(host, port, reason)
        try:
            found = self._add_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except RuntimeError:
            await self._server.stop(None)
            reason = _why_not(host, port) or "the address is taken or not allowed"
            raise _unusable(host, port, reason) from None
        await self._server.start()
        return found

    def _add_port(self, address: str) -> int:
        if self._certificates is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, partial(_credentials, self._certificates))

    async def stop(self, grace: float | None) -> None:
        await self._server.stop(grace)


def core(
    settings: ServerSettings,
    budget: ReceiveBudget | None = None,
    certificates: Certificates | None = None,
    limit: ConnectionLimit | None = None,
) -> Core:
    """The core that the settings ask for; only the server's own shares bounds with others.

    With `certificates`, it speaks TLS.
    """
    if settings.native_grpc:
        return NativeCore(settings, budget, certificates, limit)
    most = settings.max_connections if limit is None else limit.most
    return GrpcioCore(settings, most, certificates)


def _credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """What grpcio shows its clients; it asks before each handshake whether that has changed."""
    shown = certificates.current

    def configuration(held: Contents) -> Any:
        roots = held.authorities or None
        return grpc.ssl_server_certificate_configuration([(held.key, held.chain)], roots)

    def changed() -> Any:
        nonlocal shown
        if shown is certificates.current:
            return None
        shown = certificates.current
        return configuration(shown)

    needs_client = bool(shown.authorities)
    return grpc.dynamic_ssl_server_credentials(configuration(shown), changed, needs_client)


def milliseconds(seconds: float | None) -> int:
    """A time as grpcio's options have it; without one, longer than any."""
    return LARGEST_OPTION if seconds is None else min(round(seconds * 1000), LARGEST_OPTION)


def _options(settings: ServerSettings, connections: int) -> list[tuple[str, int]]:
    message = min(settings.max_body_size, LARGEST_OPTION)
    metadata = min(settings.max_header_size, LARGEST_OPTION)
    return [
        ("grpc.max_receive_message_length", message),
        ("grpc.max_send_message_length", LARGEST_OPTION),
        # Between the soft and the hard limit, calls are refused at random; equal, they are one.
        ("grpc.max_metadata_size", metadata),
        ("grpc.absolute_max_metadata_size", metadata),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.max_allowed_incoming_connections", min(connections, LARGEST_OPTION)),
        ("grpc.max_connection_idle_ms", milliseconds(settings.keep_alive_timeout)),
        ("grpc.max_connection_age_ms", milliseconds(settings.grpc_connection_age)),
        ("grpc.keepalive_time_ms", KEEP_ALIVE[0] * 1000),
        ("grpc.keepalive_timeout_ms", KEEP_ALIVE[1] * 1000),
        # A stream that is closed but not yet freed counts as open for this protection, and the
        # next call of a busy caller is refused although it kept to the limit.
        ("grpc.http.overload_protection", 0),
        # Two servers on one port would share its clients without anyone noticing.
        ("grpc.so_reuseport", 0),
    ]


def _unusable(host: str, port: int, reason: str) -> ConfigurationError:
    return ConfigurationError(f"cannot listen on {host} port {port}: {reason} (--grpc-port)")


def _why_not(host: str, port: int) -> str:
    """Why an address cannot be listened on; "" if it can."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        with socket.socket(*found[0][:3]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[0][4])
    except (socket.gaierror, UnicodeError):
        return "no such address"
    except OSError as error:
        return os.strerror(error.errno or 0).lower()
    return ""
