"""Folders of workers: who may read them, and which of them are swept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from headrace.executors import worker_folder
from headrace.executors.worker_folder import PREFIX, WorkerFolder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def old(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    (path / "file").write_text("x")
    os.utime(path, (0, 0))
    return path


def test_nobody_else_may_look_into_it(place: Path) -> None:
    folder = WorkerFolder()

    assert os.stat(folder.path).st_mode & 0o777 == 0o700
    folder.remove()
    folder.remove()
    assert not list(place.iterdir())


def test_what_a_killed_server_left_is_swept(place: Path) -> None:
    left, other = old(place / f"{PREFIX}left"), old(place / "other")
    held = WorkerFolder()
    old(Path(held.path))
    (place / f"{PREFIX}link").symlink_to(other)
    fresh = place / f"{PREFIX}fresh"
    fresh.mkdir()

    worker_folder.sweep()

    assert not left.exists()
    assert (other / "file").exists()
    assert fresh.exists()
    assert Path(held.path, "file").exists()
    held.remove()
