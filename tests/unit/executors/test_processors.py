"""How many processors a process may use, read from files like Linux's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.executors import processors

NEW = "3 1 0:2 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
OLD = "4 1 0:3 {} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def machine(root: Path, groups: str, mounts: str, **files: str) -> Path:
    """A root with these files; those in `files` are below `sys/fs/cgroup`."""
    texts = {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts}
    texts |= {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("quota", "usable"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("25000 50000", 1),
        ("1600000 100000", 8),
        ("max 100000", 8),
        ("200000 0", 8),
        ("nonsense", 8),
    ],
)
def test_the_quota_of_version_2_is_rounded_up(quota: str, usable: int, tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/", NEW, **{"cpu.max": quota})

    assert processors.usable(root) == usable


@pytest.mark.parametrize(
    ("inner", "outer", "usable"), [("4", "max", 4), ("4", "3", 3), ("2", "3", 2), ("max", "5", 5)]
)
def test_the_least_of_nested_quotas_counts(
    inner: str, outer: str, usable: int, tmp_path: Path
) -> None:
    files = {"pod/box/cpu.max": f"{inner} 1", "pod/cpu.max": f"{outer} 1"}

    assert processors.usable(machine(tmp_path, "0::/pod/box", NEW, **files)) == usable


@pytest.mark.parametrize(
    ("mounted", "group", "place"),
    [
        ("/", "/docker/f00", "/docker/f00"),
        ("/docker/f00", "/docker/f00", ""),
        ("/docker/f00", "/docker/f00/part", "/part"),
        # What /proc shows where control groups have no namespace, and the mount is another's.
        ("/", "/../../kubepods/pod", ""),
    ],
)
@pytest.mark.parametrize(("quota", "usable"), [("300000", 3), ("-1", 8)])
def test_the_quota_of_version_1_counts(
    mounted: str, group: str, place: str, quota: str, usable: int, tmp_path: Path
) -> None:
    folder = f"cpu,cpuacct{place}"
    files = {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": "100000"}
    groups = f"5:memory:/other\n2:cpu,cpuacct:{group}\n0::/"

    root = machine(tmp_path, groups, f"{OLD.format(mounted)}\n{NEW}", **files)

    assert processors.usable(root) == usable


def test_the_affinity_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})

    assert processors.usable(machine(tmp_path, "0::/", NEW, **{"cpu.max": "4 1"})) == 1


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert processors.usable(tmp_path) == 8
