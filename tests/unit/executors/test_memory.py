"""Whether a second worker fits beside the first, read from files like Linux's."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest

from headrace.executors.memory import OutOfMemory, has_room_beside

MIB = 1024 * 1024


def machine(root: Path, held: int, free: int, **groups: tuple[Any, int, int]) -> Path:
    """Files of a process that holds so many MiB, where so many are free.

    Each group, from the outermost, has its limit, what it holds, and what of that are files.
    """
    pages = held * MIB // resource.getpagesize()
    folder = root / "sys/fs/cgroup"
    files = {
        root / "proc/7/statm": f"99999999 {pages} 1 1 0 1 0",
        root / "proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {free * 1024} kB\nHugePages: 0\n",
        root / "proc/self/cgroup": f"0::/{'/'.join(groups)}\n",
        root / "proc/self/mountinfo": "3 1 0:2 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    }
    for name, (limit, current, inactive) in groups.items():
        folder /= name
        files[folder / "memory.max"] = f"{limit if limit == 'max' else limit * MIB}\n"
        files[folder / "memory.current"] = f"{current * MIB}\n"
        files[folder / "memory.stat"] = f"anon 1\ninactive_file {inactive * MIB}\n"
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(("held", "fits"), [(100, True), (101, False)])
def test_the_machines_free_memory_limits_it(held: int, fits: bool, tmp_path: Path) -> None:
    assert has_room_beside(7, machine(tmp_path, held, free=100)) is fits


@pytest.mark.parametrize(("files", "fits"), [(50, True), (49, False)])
def test_the_containers_limit_counts_without_what_files_occupy(
    files: int, fits: bool, tmp_path: Path
) -> None:
    root = machine(tmp_path, 100, free=1000, pod=(200, 150, files))

    assert has_room_beside(7, root) is fits


def test_the_limit_of_an_outer_group_counts_too(tmp_path: Path) -> None:
    root = machine(tmp_path, 100, free=1000, pod=(150, 100, 0), box=("max", 100, 0))

    assert not has_room_beside(7, root)


@pytest.mark.parametrize(("files", "fits"), [(50, True), (49, False)])
def test_the_limit_of_version_1_counts_too(files: int, fits: bool, tmp_path: Path) -> None:
    root = machine(tmp_path, 100, free=1000)
    folder = root / "sys/fs/cgroup/memory"
    folder.mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("4:memory:/docker/f00\n")
    mount = "3 1 0:2 /docker/f00 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    (root / "proc/self/mountinfo").write_text(mount)
    (folder / "memory.limit_in_bytes").write_text(f"{200 * MIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{150 * MIB}\n")
    (folder / "memory.stat").write_text(f"total_inactive_file {files * MIB}\n")

    assert has_room_beside(7, root) is fits


def test_where_nothing_can_be_read_there_is_room(tmp_path: Path) -> None:
    assert has_room_beside(7, tmp_path)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        pytest.param("sys/fs/cgroup/pod/memory.events", "oom 3\noom_kill {}\n", id="version 2"),
        pytest.param("sys/fs/cgroup/pod/memory.oom_control", "oom_kill {}\n", id="version 1"),
        pytest.param("proc/vmstat", "nr_free_pages 1\noom_kill {}\n", id="the machine's"),
    ],
)
def test_a_kill_for_lack_of_memory_is_seen_once(file: str, text: str, tmp_path: Path) -> None:
    root = machine(tmp_path, 1, 1, pod=("max", 1, 1))
    (root / file).write_text(text.format(3))
    memory = OutOfMemory(root)
    seen = [memory.has_struck()]
    (root / file).write_text(text.format(4))

    assert [*seen, memory.has_struck(), memory.has_struck()] == [False, True, False]


def test_where_no_kills_are_counted_nobody_knows(tmp_path: Path) -> None:
    assert OutOfMemory(machine(tmp_path, 1, 1)).has_struck() is None
