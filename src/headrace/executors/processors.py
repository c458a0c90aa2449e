"""How many processors this process may use, which in a container are fewer than the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from headrace.executors import control_groups


def installed() -> int:
    """The processors of the machine, which is what libraries count."""
    return os.cpu_count() or 1


def usable(root: Path = Path("/")) -> int:
    """The processors that this process may keep busy: by its affinity, and by its control groups.

    A quota of a part of a processor counts as a whole one, as in Java and Go.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else installed()
    return min([allowed, *map(math.ceil, _quotas(root))])


def _quotas(root: Path) -> Iterator[float]:
    """The limit of each control group that has one, in processors."""
    for folder in control_groups.folders("cpu", root):
        try:
            if (file := folder / "cpu.max").exists():
                quota, period = file.read_text().split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text()
                period = (folder / "cpu.cfs_period_us").read_text()
            # Without a limit it is `max`, which is no number, and in version 1 it is -1.
            if int(quota) > 0:
                yield int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue
