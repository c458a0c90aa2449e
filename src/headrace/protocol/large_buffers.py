"""Where the data of large tensors is: in memory that workers read too, if this process shares some.

What is decoded into such memory needs no copy to reach a worker. In clients, in workers and where
models run in the server itself, it is memory like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from headrace.protocol.tensor import Buffer, Tensor

# Bytes from which on a tensor is large: below, a copy through a socket is as fast.
THRESHOLD = 256 * 1024


class SharedBuffers(Protocol):
    """Memory that other processes read as well. Thread-safe."""

    def new(self, size: int) -> memoryview | None:
        """Writable memory, which is given back with the last view of it; None if it is full."""

    def offset(self, data: Buffer) -> int | None:
        """Where a buffer lies in it; None if it is elsewhere."""


_shared: SharedBuffers | None = None


def share(memory: SharedBuffers | None) -> None:
    """Decode large tensors into this memory from now on; None for the memory of this process."""
    global _shared
    _shared = memory


def empty(count: int, dtype: str) -> np.ndarray[Any, Any]:
    """An array of so many elements, to be filled."""
    if _shared is not None and (size := count * np.dtype(dtype).itemsize) >= THRESHOLD:
        buffer = _shared.new(size)
        if buffer is not None:
            return np.frombuffer(buffer, dtype)
    return np.empty(count, dtype)


def move(tensors: Iterable[Tensor]) -> None:
    """Move the data of large tensors to shared memory, unless it is there, or does not fit.

    The interpreter's lock is free meanwhile.
    """
    if _shared is None:
        return
    for tensor in tensors:
        size = len(tensor.data)
        if size < THRESHOLD or _shared.offset(tensor.data) is not None:
            continue
        buffer = _shared.new(size)
        if buffer is not None:
            np.copyto(np.frombuffer(buffer, np.uint8), np.frombuffer(tensor.data, np.uint8))
            # What decoders return can only be read either.
            tensor.data = buffer.toreadonly()
