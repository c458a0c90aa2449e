"""A control group whose processes may hold only so much memory together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from headrace.executors import control_groups
from support.serving import until


@contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """The folder of a new group, with a limit in bytes; skips where none can be made."""
    made = None
    for folder in control_groups.folders("memory"):
        with suppress(OSError):
            made = folder / f"headrace-test-{os.getpid()}"
            made.mkdir()
            file = "memory.max" if (made / "memory.max").exists() else "memory.limit_in_bytes"
            (made / file).write_text(str(limit))
            break
    else:
        pytest.skip("no control group can be made here, which takes root")
    yield made
    # The last processes may take a moment to leave it.
    until(lambda: not (made / "cgroup.procs").read_text(), 60, "the group is empty")
    made.rmdir()
