"""The descriptors of this process: how many it may open, and how many clients may have."""

from __future__ import annotations

import contextlib
import logging
import resource

from headrace.settings import ServerSettings

logger = logging.getLogger("headrace")

# What the server itself opens: libraries, listeners, files of models while they load, callers of
# the port for metrics. A server with one worker has 27 open.
RESERVED = 64
FOR_WORKER = 16

# The limits before `for_connections` raised them, which workers get back: a program that waits with
# select(2) breaks where descriptors have numbers above 1023.
_before: list[tuple[int, int]] = []


def for_connections(settings: ServerSettings) -> int:
    """Raise the limit as far as connections need it; returns how many may be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reserved = RESERVED + FOR_WORKER * max(1, settings.parallel_workers)
    wanted = settings.max_connections + reserved
    if soft not in (-1, resource.RLIM_INFINITY) and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            _before.append((soft, hard))
            soft = raised
    if soft in (-1, resource.RLIM_INFINITY) or soft >= wanted:
        return settings.max_connections
    most = max(1, soft - reserved)
    logger.warning(
        "at most %d connections, not the %d of --max-connections: this process may open %d "
        "descriptors (ulimit -n), and keeps %d for itself and its workers",
        *(most, settings.max_connections, soft, reserved),
    )
    return most


def give_back(process: int) -> None:
    """Give a process that was just started the limit that this one had before it raised it."""
    if _before and hasattr(resource, "prlimit"):
        with contextlib.suppress(OSError):
            resource.prlimit(process, resource.RLIMIT_NOFILE, _before[0])
