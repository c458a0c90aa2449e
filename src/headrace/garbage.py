"""How a process deals with memory that it no longer needs, as it starts and from then on."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# Bytes from which on a buffer is given back to the system when it is freed; twice as many free ones
# are kept for others. To take a page from the system costs about as much as to fill it.
GIVEN_BACK = 8 * 1024 * 1024
# Of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


@contextmanager
def sparing_imports() -> Iterator[None]:
    """Keep the collector from looking at what this block imports, during the block and afterwards.

    Not for blocks that run users' code: the garbage in cycles that they leave is never collected.
    """
    gc.disable()
    try:
        yield
        # Without a collection before: of a hundred thousand objects, it would find a thousand.
        gc.freeze()
    finally:
        gc.enable()


def spare_what_is_alive() -> None:
    """Keep the collector from looking at what has been loaded, and from running often."""
    # What is alive now stays alive: the collector need not walk it for the requests' garbage.
    gc.collect()
    gc.freeze()
    # 700 new objects are a handful of requests in flight, which have no cycles to look for.
    gc.set_threshold(10_000)


def give_back_large_buffers() -> None:
    """Keep little of the memory that large bodies took.

    Left to itself, the GNU C library keeps up to 64 MB once it has seen a buffer of half that size.
    """
    import ctypes

    # Other libraries have no such function, or no use for it.
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, GIVEN_BACK)
        mallopt(_TRIM_THRESHOLD, 2 * GIVEN_BACK)


def give_back_free_memory() -> None:
    """Give back what the C library keeps of memory that is free; takes about 0.1 ms for a MiB."""
    import ctypes

    # Pieces below `GIVEN_BACK` stay between others that are in use.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
