"""`grpc.reflection.v1alpha.ServerReflection`: the definitions of the services."""

from __future__ import annotations

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from headrace.access.needs import READ
from headrace.grpc.calls import CallRunner

SERVICE = reflection.SERVICE_NAME
METHOD = "ServerReflectionInfo"


def handlers(services: tuple[str, ...], runner: CallRunner) -> dict[str, grpc.RpcMethodHandler]:
    """The method handlers by name, for either core."""
    servicer = reflection.aio.ReflectionServicer(services)
    method = runner.foreign(METHOD, READ, servicer.ServerReflectionInfo)
    return {
        METHOD: grpc.stream_stream_rpc_method_handler(
            method,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
    }
