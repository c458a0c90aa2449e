"""Pythons that may use one processor only, each in one of the ways that Linux has for it."""

from __future__ import annotations

import os
import shlex
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace.executors import control_groups

PERIOD = 100_000
VERSION_1 = {"cpu.cfs_quota_us": str(PERIOD), "cpu.cfs_period_us": str(PERIOD)}
VERSION_2 = {"cpu.max": f"{PERIOD} {PERIOD}"}


@contextmanager
def python_on_one_processor(tmp_path: Path, how: str) -> Iterator[Path]:
    """A Python with an `affinity`, or in a control group with a `quota`; skips without the right.

    Linux runs the processes of the group on all processors, for as much time as one has.
    """
    if how == "affinity":
        processor = min(os.sched_getaffinity(0))
        yield _python(tmp_path, f"exec taskset --cpu-list {processor}")
        return
    group = _group()
    try:
        yield _python(tmp_path, f"echo $$ > {shlex.quote(str(group / 'cgroup.procs'))}\nexec")
    finally:
        group.rmdir()


def _python(tmp_path: Path, begin: str) -> Path:
    python = tmp_path / "python-on-one-processor"
    python.write_text(f'#!/bin/sh -e\n{begin} {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    return python


def _group() -> Path:
    """A group inside of the one that this process is in, with the time of one processor."""
    for folder in control_groups.folders("cpu"):
        group = folder / f"headrace-test-{uuid.uuid4().hex[:8]}"
        try:
            group.mkdir()
        except OSError:
            continue
        for files in (VERSION_2, VERSION_1):
            if all((group / name).exists() for name in files):
                for name, text in files.items():
                    (group / name).write_text(text)
                return group
        group.rmdir()
    pytest.skip("this user may not make a control group with a quota")
