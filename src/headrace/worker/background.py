"""Makes this process give way: to all others, or for memory to the server."""

from __future__ import annotations

import os
import time
from contextlib import suppress

# Of `nice`, and what the kernel goes by when it looks for a process to kill.
LEAST_PRIORITY = 19
MOST_EXPENDABLE = 1000
# How much more expendable than the server a worker is, in thousandths of all memory.
MORE_EXPENDABLE = 100
OOM_SCORE = "/proc/self/oom_score_adj"
# The kernel takes one such change in a tenth of a second, of all processes.
AUTOGROUP_TRIES, AUTOGROUP_PAUSE = 20, 0.1


def give_way() -> None:
    """Run when nothing else wants the processor, and be the first to go when memory is short.

    Threads that exist already keep their priority; those that come later inherit this one.
    """
    os.nice(LEAST_PRIORITY)
    if hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    _lower_autogroup()
    _set_oom_score(MOST_EXPENDABLE)


def give_way_to_server() -> None:
    """Go before the server when memory is short, and so does what this process starts.

    The kernel looks for the largest process. That may be the server, when one that it has just
    killed has not given its memory back yet.
    """
    with suppress(OSError, ValueError):
        with open(OOM_SCORE) as score:
            inherited = int(score.read())
        _set_oom_score(min(MOST_EXPENDABLE, inherited + MORE_EXPENDABLE))


def _set_oom_score(value: int) -> None:
    with suppress(OSError), open(OOM_SCORE, "w") as score:
        score.write(str(value))


def _lower_autogroup() -> None:
    """Lower the priority of this session too, if the kernel groups processes by session.

    It then shares out the processor among sessions first, and a priority only counts within one.
    """
    for _ in range(AUTOGROUP_TRIES):
        try:
            with open("/proc/self/autogroup", "w") as group:
                group.write(str(LEAST_PRIORITY))
            return
        except BlockingIOError:
            time.sleep(AUTOGROUP_PAUSE)
        except OSError:
            return
