"""What the server and the process that decodes for it say to each other, over a socket.

Each message is a pickle, which Python streams: a large body is copied once, into the kernel. Both
ends are this program, and nobody else has the socket. Buffers in the memory that the server shares
are not sent, only where they are.
"""

from __future__ import annotations

import contextlib
import copyreg
import pickle
import socket
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Protocol

from headrace.protocol.tensor import Buffer

# What the process says: that it is up, how much shared memory it needs, and how a call ended.
READY, ROOM, DONE, RAISED = range(4)


class Place(Protocol):
    """Tells where a buffer lies in shared memory; None if it is elsewhere."""

    def __call__(self, data: Buffer) -> int | None: ...


def _nowhere(data: Buffer) -> None:
    return None


class Exchange:
    """One end of the socket.

    `place` says where a buffer to be sent lies in shared memory, and `placed` gives the buffer of
    so many bytes that the other end has put there.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reading = sock.makefile("rb")
        self._writing = sock.makefile("wb")
        self.place: Place = _nowhere
        self.placed: Callable[[int, int], Buffer] | None = None

    def send(self, message: object) -> None:
        """Send a message.

        Raises:
            OSError: the other end has gone, or takes nothing within the socket's timeout.
        """
        _Pickler(self._writing, self.place).dump(message)
        self._writing.flush()

    def receive(self) -> Any:
        """Wait for the next message.

        Raises:
            EOFError, OSError: the other end has gone, or says nothing within the socket's timeout.
        """
        return _Unpickler(self._reading, self.placed).load()

    def close(self) -> None:
        """Close the socket, whatever has not been sent."""
        for each in (self._writing, self._reading, self._sock):
            with contextlib.suppress(OSError):
                each.close()


class _Pickler(pickle.Pickler):
    dispatch_table: Any = copyreg.dispatch_table | {
        MappingProxyType: lambda proxy: (_read_only, (dict(proxy),))
    }

    def __init__(self, file: Any, place: Place) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._place = place

    def persistent_id(self, value: object) -> Any:
        # Pickle has no form for views of memory.
        if type(value) is not memoryview:
            return None
        offset = self._place(value)
        return bytes(value) if offset is None else (offset, len(value))


def _read_only(fields: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(fields)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, placed: Callable[[int, int], Buffer] | None) -> None:
        super().__init__(file)
        self._placed = placed

    def persistent_load(self, found: Any) -> Buffer:
        if isinstance(found, bytes):
            return found
        assert self._placed is not None, "no memory is shared in this direction"
        return self._placed(*found)
