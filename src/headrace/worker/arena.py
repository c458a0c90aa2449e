"""Shared memory for tensors too large to push through a socket.

Each is an anonymous memory file: one for the requests of a front process, which all its workers
read, and one for the answers of each worker. The writer allocates and frees; the others only read.
The kernel frees the memory when all its processes are gone, whatever killed them, so nothing is
left behind.
"""

from __future__ import annotations

import mmap
import os

import numpy as np

from headrace.protocol.large_buffers import THRESHOLD
from headrace.protocol.tensor import Buffer

SIZE = 1024 * 1024 * 1024
# Where the address space is limited (`ulimit -v`), an arena takes at most one of so many parts of
# it: models need the rest.
PARTS = 32
# Bytes at the start of an arena whose pages stay once they have been written: to take a page from
# the system costs several times what it costs to fill it.
KEPT = 16 * 1024 * 1024
SUPPORTED = hasattr(os, "memfd_create") and hasattr(mmap, "MADV_REMOVE")


class Arena:
    """A sparse memory file with a first-fit allocator, for one thread at a time.

    Pages are taken from the system when written. All but those at the start are given back when
    freed, so an idle arena costs little. One that is not `writable` can only be read. `size` is in
    bytes.

    Raises:
        OSError: there is no room for it in the address space of this process.
    """

    def __init__(self, fd: int, writable: bool = True) -> None:
        self.size = os.fstat(fd).st_size
        access = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
        self._map = mmap.mmap(fd, self.size, prot=access)
        self._used: list[tuple[int, int]] = []
        self._lengths: dict[int, int] = {}

    @staticmethod
    def create_file(size: int = SIZE) -> int:
        """A new memory file's descriptor; the caller closes it.

        The file is smaller than `size` where this process may not map that much.

        Raises:
            OSError: the system allows no such file.
        """
        fd = os.memfd_create("headrace-tensors", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, _allowed(size))
        except OSError:
            os.close(fd)
            raise
        return fd

    def take(self, size: int) -> int | None:
        """The offset of a place for so many bytes, at the start of a page; None if it is full."""
        length = size + -size % mmap.PAGESIZE
        start = self._find(length)
        if start is None:
            return None
        self._used.append((start, length))
        self._used.sort()
        self._lengths[start] = length
        return start

    def place(self, data: Buffer) -> int | None:
        """Copy a large buffer in and return its offset; None if it is small or the arena full."""
        size = len(data)
        if size < THRESHOLD:
            return None
        start = self.take(size)
        if start is not None:
            self._map[start : start + size] = data
        return start

    def view(self, offset: int, size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        """The bytes there, in place. It is read-only if the arena is."""
        return np.frombuffer(self._map, np.uint8, size, offset)

    def fetch(self, offset: int, size: int) -> bytes:
        """Copy a buffer out."""
        return self._map[offset : offset + size]

    def free(self, offset: int) -> None:
        """Let the place of one buffer be used again."""
        length = self._lengths.pop(offset)
        self._used.remove((offset, length))
        start = max(offset, KEPT)
        if start < offset + length:
            self._map.madvise(mmap.MADV_REMOVE, start, offset + length - start)

    def close(self) -> None:
        self._map.close()

    def _find(self, length: int) -> int | None:
        start = 0
        for used_start, used_length in self._used:
            if used_start - start >= length:
                return start
            start = used_start + used_length
        return start if self.size - start >= length else None


def _allowed(size: int) -> int:
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return size
    return min(size, limit // PARTS // mmap.PAGESIZE * mmap.PAGESIZE)
