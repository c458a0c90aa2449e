"""The gRPC transport's socket and server, from the bind to the last answer of a drain."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from grpc_reflection.v1alpha import reflection

from headrace.dataplane import Calls, DataPlane
from headrace.errors import ConfigurationError
from headrace.grpc import core, health, servicer
from headrace.grpc.calls import CallRunner
from headrace.settings import ServerSettings

MAX_STREAMS = 256
# Seconds for calls that arrived with the last packets; an idle stream would take forever.
LAST_CALLS = 0.5
# The core's options cannot hold larger numbers, and no gRPC message is larger.
LARGEST_OPTION = 2**31 - 1


class GrpcListener:
    """Serves the gRPC services on one port; drains in the same steps as the HTTP listener."""

    def __init__(self, dataplane: DataPlane, calls: Calls, settings: ServerSettings) -> None:
        self.announce_close = False
        self.port = 0
        self._settings = settings
        native = core.is_native(settings)
        # The native core refuses metadata whose names begin with `grpc-`, and drops the call.
        self._runner = CallRunner(calls, pushback=not native)
        self._closing: asyncio.Task[None] | None = None
        self._server = core.server(native, _options(settings))
        services = (servicer.SERVICE, health.SERVICE, reflection.SERVICE_NAME)
        inference = servicer.InferenceService(dataplane, calls, self._runner)
        handlers = inference.handlers()
        core.register(self._server, servicer.SERVICE, handlers)
        repository = {name: handlers[name] for name in servicer.REPOSITORY_METHODS}
        core.register(self._server, servicer.MLSERVER_REPOSITORY, repository)
        healthy = health.HealthService(dataplane, self._runner, services)
        core.register(self._server, health.SERVICE, healthy.handlers())
        reflection.enable_server_reflection(services, self._server)

    @classmethod
    async def start(
        cls, dataplane: DataPlane, calls: Calls, settings: ServerSettings
    ) -> GrpcListener:
        """Listen on `--grpc-port`; port 0 picks a free one, which is then `port`.

        Raises:
            ConfigurationError: the address is unknown, taken or not allowed; or the native core
                has nowhere to put its socket.
        """
        self = cls(dataplane, calls, settings)
        host, port = settings.host, settings.grpc_port
        # grpcio would say the same in words of its own, on lines of its own.
        if reason := _why_not(host, port):
            await self._server.stop(None)
            raise _unusable(host, port, reason)
        try:
            self.port = self._server.add_insecure_port(
                f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            )
        except RuntimeError:
            await self._server.stop(None)
            reason = _why_not(host, port) or "the address is taken or not allowed"
            raise _unusable(host, port, reason) from None
        try:
            await self._server.start()
        except (OSError, RuntimeError):
            # It passes streams to grpcio through a socket; grpcio itself needs none.
            await self._server.stop(None)
            raise ConfigurationError(
                "the native core needs a folder for a Unix socket: TMPDIR must name one that can "
                "be written to, by a short path (--native-grpc)"
            ) from None
        return self

    def in_flight(self) -> set[asyncio.Future[Any]]:
        """The requests now being answered; the set is live."""
        return self._runner.in_flight

    def close_listeners(self) -> None:
        """Take no more connections or requests; those in flight continue."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._server.stop(self._settings.drain_timeout))

    async def shut_down_connections(self) -> None:
        """Nothing to do: closing the listener has told every connection to go away."""

    async def flush(self, deadline: float) -> int:
        """Nothing to do: a call is in flight until its answer has left."""
        return 0

    async def stop(self) -> None:
        """Cut what is left."""
        if self._closing is not None:
            # The core may hold calls that it took before it closed and has not passed on yet.
            await asyncio.wait([self._closing], timeout=LAST_CALLS)
        # The native core, asked to stop a second time, only waits for the first to end.
        self._runner.cut()
        await self._server.stop(None)
        if self._closing is not None:
            await self._closing


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    message = min(settings.max_body_size, LARGEST_OPTION)
    metadata = min(settings.max_header_size, LARGEST_OPTION)
    return [
        ("grpc.max_receive_message_length", message),
        ("grpc.max_send_message_length", message),
        # Between the soft and the hard limit, calls are refused at random; equal, they are one.
        ("grpc.max_metadata_size", metadata),
        ("grpc.absolute_max_metadata_size", metadata),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
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
