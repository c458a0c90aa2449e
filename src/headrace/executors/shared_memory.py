"""The memory in which this process has the large tensors of its requests, for workers to read."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from functools import cache, partial
from typing import Any

import numpy as np

from headrace.protocol import large_buffers
from headrace.protocol.tensor import Buffer
from headrace.worker.arena import SUPPORTED, Arena

logger = logging.getLogger("headrace.executors")

# More than all queues hold. It costs nothing until it is used.
SIZE = 4 * 1024 * 1024 * 1024


class _Place(weakref.ref[Any]):
    """A place that is free once the array over it is gone, and with it every view of that."""

    __slots__ = ("offset",)
    offset: int


class SharedMemory:
    """Buffers in one memory file, each of which is freed with the last view of it. Thread-safe.

    The last view of a buffer may go in any thread at any moment, even within a method of this
    class. So what happens then waits for no lock.

    Raises:
        OSError: the system allows no such file, or there is no room for it.
    """

    def __init__(self, size: int = SIZE) -> None:
        # Kept open for the workers that are yet to come.
        self.fd = Arena.create_file(size)
        try:
            self._arena = Arena(self.fd)
        except OSError:
            os.close(self.fd)
            raise
        self._start = self._arena.view(0, 1).ctypes.data
        self._lock = threading.Lock()
        self._places: dict[int, _Place] = {}
        self._left: deque[_Place] = deque()
        # In a process that was forked from the one that shares it.
        self._is_inherited = False

    def new(self, size: int) -> memoryview | None:
        """Writable memory, which is given back with the last view of it; None if it is full."""
        if self._is_inherited:
            return None
        with self._lock:
            self._free_left()
            offset = self._arena.take(size)
            if offset is not None:
                array = self._arena.view(offset, size)
                place = self._places[offset] = _Place(array, self._on_left)
                place.offset = offset
        self._tidy()
        return None if offset is None else array.data

    def copy(self, data: Buffer) -> memoryview | None:
        """A buffer here with the same bytes; None if there is no room."""
        buffer = self.new(len(data))
        if buffer is not None:
            buffer[:] = data
        return buffer

    def offset(self, data: Buffer) -> int | None:
        """Where a buffer lies in the file; None if it is elsewhere."""
        if type(data) is not memoryview:
            return None
        offset = np.frombuffer(data, np.uint8).ctypes.data - self._start
        return offset if 0 <= offset < self._arena.size else None

    @property
    def used(self) -> int:
        """How many buffers are taken."""
        self._tidy()
        return len(self._places)

    def inherit(self) -> None:
        """Leave it to the parent process: neither take parts of it any more nor give them back."""
        self._is_inherited = True

    def close(self) -> None:
        """Share it with no more workers."""
        os.close(self.fd)

    def _on_left(self, place: _Place) -> None:
        if not self._is_inherited:
            self._left.append(place)
            self._tidy()

    def _tidy(self) -> None:
        """Free what was left, unless a thread is at it: that one looks again afterwards."""
        while self._left and self._lock.acquire(blocking=False):
            try:
                self._free_left()
            finally:
                self._lock.release()

    def _free_left(self) -> None:
        while self._left:
            place = self._left.popleft()
            del self._places[place.offset]
            self._arena.free(place.offset)


@cache
def shared_memory() -> SharedMemory | None:
    """The one of this process, in which requests are decoded from now on; None without support."""
    if not SUPPORTED:
        return None
    try:
        memory = SharedMemory()
    except OSError as error:
        logger.warning("large requests take longer: no memory is shared with workers (%s)", error)
        return None
    large_buffers.share(memory)
    os.register_at_fork(after_in_child=partial(_inherit, memory))
    return memory


def _inherit(memory: SharedMemory) -> None:
    memory.inherit()
    large_buffers.share(None)
    shared_memory.cache_clear()
