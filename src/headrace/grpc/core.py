"""Which implementation of HTTP/2 carries gRPC: grpcio's, or a native one beside it.

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
    """Whether the native core is to carry gRPC, which `--native-grpc` asks for.

    Raises:
        ConfigurationError: it is not installed.
    """
    if settings.native_grpc and importlib.util.find_spec(NATIVE) is None:
        raise ConfigurationError(
            "--native-grpc needs the native core: pip install 'headrace[native-grpc]'"
        )
    return settings.native_grpc


def server(native: bool, options: list[tuple[str, int]]) -> Any:
    """A server in the form of `grpc.aio.Server`, not yet listening."""
    if not native:
        return grpc.aio.server(options=options)
    # Not `from pygrpc_native import aio`, which asks itself for it without end (seen in 0.5).
    return importlib.import_module(f"{NATIVE}.aio").server(options=options)


def register(server: Any, service: str, handlers: dict[str, grpc.RpcMethodHandler]) -> None:
    """Let a server answer the methods of a service.

    The native core answers itself what is registered by name, and gives the rest to grpcio.
    """
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    if hasattr(server, "add_registered_method_handlers"):
        server.add_registered_method_handlers(service, handlers)
