"""Shared memory for tensors too large to push through a socket.

Each direction of a connection has one anonymous memory file. The sender allocates and frees;
the receiver only reads. The kernel frees the memory when both processes are gone, whatever
killed them, so nothing is left behind.
"""

from __future__ import annotations

import mmap
import os

from headrace.protocol.tensor import Buffer

# Below this size, a copy through the socket is as fast and needs no release.
THRESHOLD = 256 * 1024
SIZE = 1024 * 1024 * 1024
# Bytes at the start of an arena whose pages stay once they have been written: to take a page from
# the system costs several times what it costs to fill it.
KEPT = 16 * 1024 * 1024
SUPPORTED = hasattr(os, "memfd_create") and hasattr(mmap, "MADV_REMOVE")


class Arena:
    """A sparse memory file of `size` bytes with a first-fit allocator.

    Pages are taken from the system when written. All but those at the start are given back when
    freed, so an idle arena costs little.
    """

    def __init__(self, fd: int, size: int = SIZE) -> None:
        self._map = mmap.mmap(fd, size)
        self._size = size
        self._used: list[tuple[int, int]] = []
        self._lengths: dict[int, int] = {}

    @staticmethod
    def create_file(size: int = SIZE) -> int:
        """A new memory file's descriptor; the caller closes it."""
        fd = os.memfd_create("headrace-tensors", os.MFD_CLOEXEC)
        os.ftruncate(fd, size)
        return fd

    def place(self, data: Buffer) -> int | None:
        """Copy a large buffer in and return its offset; None if it is small or the arena full."""
        size = len(data)
        if size < THRESHOLD:
            return None
        length = size + -size % mmap.PAGESIZE
        start = self._find(length)
        if start is None:
            return None
        self._map[start : start + size] = data
        self._used.append((start, length))
        self._used.sort()
        self._lengths[start] = length
        return start

    def fetch(self, offset: int, size: int) -> bytes:
        """Copy a peer's buffer out.

        A copy, because models may keep what they are given long after the sender frees it.
        """
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
        return start if self._size - start >= length else None
