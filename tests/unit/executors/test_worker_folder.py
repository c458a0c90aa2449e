"""Folders of workers: who may read them, and which of them are swept."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from pathlib import Path
from queue import Queue

import pytest

from headrace.application import Application
from headrace.executors import worker_folder
from headrace.executors.worker_folder import PREFIX, WorkerFolder
from headrace.settings import ServerSettings
from headrace.sources.supply import Supply

PATIENCE = 30.0


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


def test_a_server_loads_its_models_while_much_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = threading.Event()
    swept: Queue[bool] = Queue()
    monkeypatch.setattr(worker_folder, "sweep", lambda: swept.put(loaded.wait(PATIENCE)))

    async def load() -> bool:
        settings = ServerSettings(parallel_workers=0, allow_empty=True)
        application = Application(settings, Supply([], lambda name: []))
        try:
            return await application.load()
        finally:
            loaded.set()
            await application.close()

    assert asyncio.run(load())
    assert swept.get(timeout=PATIENCE), "the sweep had to end before the models were loaded"
