"""The gRPC transport's socket and server, from the bind to the last answer of a drain."""

from __future__ import annotations

import asyncio
from typing import Any

from headrace.connection_limit import ConnectionLimit
from headrace.dataplane import Calls, DataPlane
from headrace.grpc import health, reflecting, servicer
from headrace.grpc.calls import CallRunner
from headrace.grpc.core import core
from headrace.protocol.open_inference.counts import Counts
from headrace.receive_budget import ReceiveBudget
from headrace.settings import ServerSettings
from headrace.tls.certificates import Certificates

# Seconds for calls that arrived with the last packets; an idle stream would take forever.
LAST_CALLS = 0.5


class GrpcListener:
    """Serves the gRPC services on one port; drains in the same steps as the HTTP listener."""

    def __init__(
        self,
        dataplane: DataPlane,
        calls: Calls,
        settings: ServerSettings,
        budget: ReceiveBudget | None = None,
        certificates: Certificates | None = None,
        limit: ConnectionLimit | None = None,
    ) -> None:
        self.announce_close = False
        self.port = 0
        self._settings = settings
        counts = Counts.of(settings)
        self._runner = CallRunner(calls, counts)
        self._closing: asyncio.Task[None] | None = None
        self._core = core(settings, budget, certificates, limit)
        services = (servicer.SERVICE, health.SERVICE, reflecting.SERVICE)
        inference = servicer.InferenceService(dataplane, calls, self._runner, counts)
        handlers = inference.handlers()
        self._core.register(servicer.SERVICE, handlers)
        repository = {name: handlers[name] for name in servicer.REPOSITORY_METHODS}
        self._core.register(servicer.MLSERVER_REPOSITORY, repository)
        healthy = health.HealthService(dataplane, self._runner, services)
        self._core.register(health.SERVICE, healthy.handlers())
        self._core.register(reflecting.SERVICE, reflecting.handlers(services, self._runner))

    @classmethod
    async def start(
        cls,
        dataplane: DataPlane,
        calls: Calls,
        settings: ServerSettings,
        budget: ReceiveBudget | None = None,
        certificates: Certificates | None = None,
        limit: ConnectionLimit | None = None,
    ) -> GrpcListener:
        """Listen on `--grpc-port`; port 0 picks a free one, which is then `port`.

        What is received counts in `budget`, and connections in `limit`, which other listeners may
        share.

        Raises:
            ConfigurationError: the address is unknown, taken or not allowed.
        """
        self = cls(dataplane, calls, settings, budget, certificates, limit)
        self.port = await self._core.start(settings.host, settings.grpc_port)
        return self

    def in_flight(self) -> set[asyncio.Future[Any]]:
        """The requests now being answered; the set is live."""
        return self._runner.in_flight

    def close_listeners(self) -> None:
        """Take no more connections or requests; those in flight continue."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._core.stop(self._settings.drain_timeout))

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
        self._runner.cut()
        await self._core.stop(None)
        if self._closing is not None:
            await self._closing
