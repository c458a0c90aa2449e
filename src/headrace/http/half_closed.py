"""Clients that send nothing more: those that still read are told from those that have left."""

from __future__ import annotations

import asyncio
import select
import socket
import struct

# What may precede any answer of HTTP/1.1 (RFC 9110 15.2). The kernel of a client that has closed
# its socket responds to it with a reset; one that reads passes over it.
PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"

# Of Linux's `struct tcp_info`: where `tcpi_bytes_acked` is.
_ACKNOWLEDGED = struct.Struct("120xQ")


class HalfClosed:
    """Aborts connections whose client turns out to have left.

    An event loop stops watching a connection once nothing more can be read from it, and a reset
    would go unnoticed until the next write.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._transports: dict[int, asyncio.Transport] = {}
        self._loop = loop
        self._epoll = select.epoll()
        loop.add_reader(self._epoll.fileno(), self._look)

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> HalfClosed | None:
        """What watches for a loop; None on a system where nothing can."""
        return cls(loop) if hasattr(select, "epoll") else None

    def watch(self, transport: asyncio.Transport) -> int:
        """Abort the connection as soon as its client resets it; returns what `forget` takes."""
        number: int = transport.get_extra_info("socket").fileno()
        self._transports[number] = transport
        # Errors and hang-ups are reported whatever is asked for; the kernel forgets what is closed.
        self._epoll.register(number, select.EPOLLET)
        return number

    @staticmethod
    def acknowledged(transport: asyncio.Transport) -> int | None:
        """How many bytes the system of the client has taken; None where that is not known.

        That of a client that has closed its socket takes none.
        """
        sock = transport.get_extra_info("socket")
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
        taken: int | None = None
        if len(info) == _ACKNOWLEDGED.size:
            (taken,) = _ACKNOWLEDGED.unpack(info)
        return taken

    def forget(self, number: int | None, transport: asyncio.Transport) -> None:
        """A connection is closed; another may have its number by now."""
        if number is not None and self._transports.get(number) is transport:
            del self._transports[number]

    def close(self) -> None:
        """Watch nothing any more."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _look(self) -> None:
        for number, _ in self._epoll.poll(0):
            if (transport := self._transports.pop(number, None)) is not None:
                transport.abort()
