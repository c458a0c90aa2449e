"""Listening sockets, for every transport."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address

from headrace.errors import ConfigurationError

# Connections that the kernel keeps until they are accepted.
BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """Open a listening socket on an IPv4 or IPv6 address; port 0 picks a free one.

    It listens immediately, so that a second server on the same port fails here and not later.

    Raises:
        ConfigurationError: the address is unknown, taken or not allowed; the message names
            address and port, and the caller adds its flag.
    """
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"cannot listen on {host} port {port}: there is no such port")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        sock = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _unusable(host, port, error) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `::` means every address, IPv4 included.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise _unusable(host, port, error) from error
    return sock


def _unusable(host: str, port: int, error: Exception) -> ConfigurationError:
    code = error.errno if isinstance(error, OSError) else None
    gai = isinstance(error, socket.gaierror)
    reason = os.strerror(code) if code is not None and not gai else "no such address"
    return ConfigurationError(f"cannot listen on {host} port {port}: {reason.lower()}")


def waiting(sock: socket.socket) -> Iterator[socket.socket]:
    """The connections that are not accepted yet, which the kernel would reset at the close."""
    for _ in range(BACKLOG):
        try:
            accepted, _ = sock.accept()
        except OSError:
            return
        accepted.setblocking(False)
        yield accepted


def is_address(host: str) -> bool:
    """Whether it is an IP address, and not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on this host."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
