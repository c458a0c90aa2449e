"""`grpc.health.v1.Health`, answered from the data plane's own readiness."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from headrace.dataplane import DataPlane
from headrace.grpc.calls import CallRunner

SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
# Seconds between two checks of a watched state.
WATCH_INTERVAL = 1.0

_Status = health_pb2.HealthCheckResponse.ServingStatus


class HealthService:
    """The server, under the empty name, and each of its services are ready when the models are.

    Everybody may ask, and no answer names a model, so that these calls pass no observer.
    """

    def __init__(self, dataplane: DataPlane, runner: CallRunner, services: tuple[str, ...]) -> None:
        self._dataplane = dataplane
        self._runner = runner
        self._services = ("", *services)

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """The method handlers by name, for either core."""
        request = health_pb2.HealthCheckRequest.FromString
        response = health_pb2.HealthCheckResponse.SerializeToString
        return {
            "Check": grpc.unary_unary_rpc_method_handler(self.check, request, response),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch, request, response),
        }

    async def check(self, message: Any, context: Any) -> Any:
        """The state now."""
        if message.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=self._status(message.service))

    async def watch(self, message: Any, context: Any) -> None:
        """The state now and after each change, until the caller leaves."""
        sent = None
        with self._runner.streaming():
            while True:
                status = self._status(message.service)
                if status != sent:
                    await context.write(health_pb2.HealthCheckResponse(status=status))
                    sent = status
                await asyncio.sleep(WATCH_INTERVAL)

    def _status(self, service: str) -> Any:
        if service not in self._services:
            return _Status.SERVICE_UNKNOWN
        return _Status.SERVING if self._dataplane.is_ready() else _Status.NOT_SERVING
