"""The garbage collector of a process that answers requests: as it starts, and from then on."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


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
