"""The process that decodes: it does what the server asks, one call after the other.

Run as `python -m headrace.decoding SOCKET [MEMORY]`, with the numbers of two descriptors.
"""

from __future__ import annotations

import gc
import pickle
import signal
import socket
import sys
import traceback

import numpy as np

from headrace import garbage
from headrace.decoding.exchange import DONE, RAISED, READY, ROOM, Exchange
from headrace.protocol import large_buffers
from headrace.protocol.tensor import Buffer
from headrace.worker.arena import Arena


def main(fd: int, memory: int | None = None) -> None:
    """Serve the other end of the socket `fd` until that is closed.

    `memory` is the descriptor of the memory that the server shares with it and with workers.
    """
    # Sent to everything of a terminal or a service: the server is to end first.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    exchange = Exchange(socket.socket(fileno=fd))
    if memory is not None:
        lent = LentMemory(exchange, memory)
        exchange.place = lent.offset
        large_buffers.share(lent)
    exchange.send((READY, None))
    # So that a look for what a body has left in cycles takes no time.
    gc.freeze()
    while _served(exchange):
        gc.collect()
        garbage.give_back_free_memory()


def _served(exchange: Exchange) -> bool:
    """Run the next call; returns False once the server has closed the connection."""
    try:
        work, arguments = exchange.receive()
    except (EOFError, ConnectionError, pickle.UnpicklingError):
        # The server has gone, perhaps in the middle of a body.
        return False
    try:
        answer = (DONE, work(*arguments))
    except Exception as exc:
        exc.add_note("".join(traceback.format_exception(exc)))
        # The body is in the frames of what was raised, which are in cycles with it.
        exc.__cause__ = exc.__context__ = None
        answer = (RAISED, exc.with_traceback(None))
    try:
        exchange.send(answer)
    except ConnectionError:
        return False
    return True


class LentMemory:
    """The server's shared memory, of which the server gives out the parts.

    Raises:
        OSError: there is no room for it in the address space of this process.
    """

    def __init__(self, exchange: Exchange, fd: int) -> None:
        self._exchange = exchange
        self._arena = Arena(fd)
        self._start = self._arena.view(0, 1).ctypes.data

    def new(self, size: int) -> memoryview | None:
        """Writable memory; None if it is full."""
        self._exchange.send((ROOM, size))
        offset = self._exchange.receive()
        return None if offset is None else self._arena.view(offset, size).data

    def offset(self, data: Buffer) -> int | None:
        """Where a buffer lies in it; None if it is elsewhere."""
        if type(data) is not memoryview or not data.nbytes:
            return None
        offset = np.frombuffer(data, np.uint8).ctypes.data - self._start
        return offset if 0 <= offset < self._arena.size else None


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
