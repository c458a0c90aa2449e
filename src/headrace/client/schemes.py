"""Chooses the transport for a URL."""

from __future__ import annotations

from headrace.client.transports import (
    AsyncHttpTransport,
    AsyncTransport,
    HttpTransport,
    Options,
    Transport,
)

HTTP = ("http", "https")
GRPC = ("grpc", "grpcs")


def open_transport(url: str, options: Options) -> Transport:
    """The blocking transport for the URL.

    Raises:
        ValueError: the scheme is unknown, or does not support what the options ask for.
    """
    scheme, address = _split(url)
    if scheme in HTTP:
        return HttpTransport(f"{scheme}://{address}", options)
    from headrace.client.rpc_transports import GrpcTransport

    return GrpcTransport(address, scheme == "grpcs", options)


def open_async_transport(url: str, options: Options) -> AsyncTransport:
    """The transport for the URL in an event loop.

    Raises:
        ValueError: the scheme is unknown, or does not support what the options ask for.
    """
    scheme, address = _split(url)
    if scheme in HTTP:
        return AsyncHttpTransport(f"{scheme}://{address}", options)
    from headrace.client.rpc_transports import AsyncGrpcTransport

    return AsyncGrpcTransport(address, scheme == "grpcs", options)


def _split(url: str) -> tuple[str, str]:
    """The scheme and what follows it; without a scheme it is HTTP."""
    scheme, found, address = url.partition("://")
    if not found:
        return "http", url
    if scheme not in HTTP + GRPC:
        raise ValueError(f"expected a URL of {', '.join(HTTP + GRPC)}, got {scheme}://")
    return scheme, address
