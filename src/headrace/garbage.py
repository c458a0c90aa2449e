"""The garbage collector of a process that answers requests, for as long as it does."""

from __future__ import annotations

import gc


def spare_what_is_alive() -> None:
    """Keep the collector from looking at what has been loaded, and from running often."""
    # What is alive now stays alive: the collector need not walk it for the requests' garbage.
    gc.collect()
    gc.freeze()
    # 700 new objects are a handful of requests in flight, which have no cycles to look for.
    gc.set_threshold(10_000)
