"""Chooses the HTTP/2 implementation for gRPC: grpcio's, or a native one alongside it.

Both take the same servicer: method handlers over bytes, and a context.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import grpc

from headrace.errors import ConfigurationError
from headrace.settings import ServerSettings

NATIVE = "pygrpc_native"


def is_native(settings: ServerSettings) -> bool:
    """Whether `--native-grpc` asks for the native core.

    Raises:
        ConfigurationError: it is not installed.
    """
    if settings.native_grpc and importlib.util.find_spec(NATIVE) is None:
        raise ConfigurationError(
            "--native-grpc needs the native core: pip install 'headrace[native-grpc]'"
        )
    return settings.native_grpc


def server(native: bool, options: list[tuple[str, int]]) -> Any:
    """A server with the interface of `grpc.aio.Server`, not yet listening."""
    if not native:
        return grpc.aio.server(options=options)
    # Not `from pygrpc_native import aio`, which recurses without end (seen in 0.5).
    return importlib.import_module(f"{NATIVE}.aio").server(options=options)


def register(server: Any, service: str, handlers: dict[str, grpc.RpcMethodHandler]) -> None:
    """Register the methods of a service with a server.

    The native core answers methods that are registered by name, and passes the rest to grpcio.
    """
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    if hasattr(server, "add_registered_method_handlers"):
        server.add_registered_method_handlers(service, handlers)
