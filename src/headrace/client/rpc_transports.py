"""How operations reach a server over gRPC, blocking or awaited."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from headrace.client import operations as ops
from headrace.client import rpc
from headrace.client.client_errors import ClientError
from headrace.client.transports import Options, wire
from headrace.protocol.open_inference import GRPC_SERVICE

SERVICE = f"/{GRPC_SERVICE}/"
# Tensors may be large, so only the server's cap on a message applies.
CHANNEL = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class GrpcTransport:
    """One HTTP/2 channel, for threads."""

    def __init__(self, address: str, secure: bool, options: Options) -> None:
        credentials = _credentials(secure, options)
        self._metadata = _metadata(options)
        self._channel = (
            grpc.insecure_channel(address, CHANNEL)
            if credentials is None
            else grpc.secure_channel(address, credentials, CHANNEL)
        )

    def perform(self, operation: ops.Operation, timeout: float | None) -> Any:
        method, message, answer = rpc.call_of(operation)
        wire.debug("sent %s: %s", method, message)
        call = self._channel.unary_unary(
            SERVICE + method, type(message).SerializeToString, answer.FromString
        )
        try:
            reply = call(message, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _translated(error) from error
        wire.debug("received %s: %s", method, reply)
        return rpc.value_of(operation, reply)

    def close(self) -> None:
        self._channel.close()


class AsyncGrpcTransport:
    """One HTTP/2 channel, for one event loop."""

    def __init__(self, address: str, secure: bool, options: Options) -> None:
        self._address = address
        self._credentials = _credentials(secure, options)
        self._metadata = _metadata(options)
        self._channel: Any = None

    async def perform(self, operation: ops.Operation, timeout: float | None) -> Any:
        method, message, answer = rpc.call_of(operation)
        wire.debug("sent %s: %s", method, message)
        call = self._opened().unary_unary(
            SERVICE + method, type(message).SerializeToString, answer.FromString
        )
        try:
            reply = await call(message, timeout=timeout, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error
        wire.debug("received %s: %s", method, reply)
        return rpc.value_of(operation, reply)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    def _opened(self) -> Any:
        """The channel, created in the loop that it will run in."""
        if self._channel is None:
            self._channel = (
                grpc.aio.insecure_channel(self._address, CHANNEL)
                if self._credentials is None
                else grpc.aio.secure_channel(self._address, self._credentials, CHANNEL)
            )
        return self._channel


def _credentials(secure: bool, options: Options) -> Any:
    if options.transport is not None:
        raise ValueError("transport is for HTTP; gRPC has none to replace")
    if not secure:
        return None
    if options.verify is False or isinstance(options.verify, ssl.SSLContext):
        raise ValueError(
            "gRPC always verifies certificates; verify is the file of your own authorities, and "
            "cert that of the client's certificate"
        )
    authorities = None if options.verify is True else _bytes(os.fspath(options.verify), "verify")
    if (files := options.cert_files()) is None:
        return grpc.ssl_channel_credentials(authorities)
    certificate, key = (_bytes(file, "cert") for file in files)
    return grpc.ssl_channel_credentials(authorities, key, certificate)


def _bytes(file: str, argument: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"{argument}: '{file}': {error.strerror}") from error


def _metadata(options: Options) -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), value) for name, value in options.headers.items())


def _translated(error: Any) -> ClientError:
    """The one place where gRPC's exceptions become the client's."""
    wire.debug("received %s: %s", error.code().name, error.details())
    trailing = {str(key): value for key, value in error.trailing_metadata() or ()}
    return rpc.error_of(error.code().name, error.details() or "", trailing)
