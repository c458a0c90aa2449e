"""A disk that fills up at any moment: a clear error, and nothing is left of what was begun."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from headrace import models
from headrace.errors import LoadFailed, StoreFailed
from support.stored import left_behind, require_sound, store

FULL = "disk is full|No space left on device"


@contextmanager
def full_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> Iterator[list[int]]:
    """Let this many calls that need space succeed, then fail as a full disk does; counts them."""
    count = [0]

    def limited(function: Callable[..., Any], needs: Callable[..., bool]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if needs(*arguments, **options):
                count[0] += 1
                if count[0] > calls:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments, **options)

        return call

    def creates(path: object, flags: int, *rest: object, **more: object) -> bool:
        return bool(flags & os.O_CREAT) and not str(path).endswith(".lock")

    def writes(file: object, mode: str = "r", *rest: object, **more: object) -> bool:
        return any(each in mode for each in "wxa")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", limited(os.open, creates))
        patch.setattr(Path, "open", limited(Path.open, writes))
        patch.setattr(os, "fsync", limited(os.fsync, lambda *_: True))
        patch.setattr(os, "mkdir", limited(os.mkdir, lambda *_, **__: True))
        patch.setattr(os, "rename", limited(os.rename, lambda *_, **__: True))
        yield count


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def imported(archive: Path) -> object:
    return models.import_model(archive)


def exported(archive: Path) -> object:
    return models.export_model("iris:v1", archive.with_name("new.tar.gz"))


def exported_folder(archive: Path) -> object:
    return models.export_model("iris:v1", archive.with_name("new"))


def created(archive: Path) -> object:
    return store("rose:v2")


@pytest.mark.parametrize("work", [created, imported, exported, exported_folder])
def test_a_disk_that_fills_up_at_any_moment_leaves_the_store_as_it_was(
    home: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[Path], object]
) -> None:
    archive = home.parent / "rose.tar.gz"
    models.export_model(store("rose:v1"), archive)
    models.delete("rose")
    store("iris:v1")
    before = everything(home.parent)
    with full_after(monkeypatch, 10**9) as count:
        work(archive)
    undo(home)
    assert count[0] >= 5
    for calls in range(count[0]):
        with full_after(monkeypatch, calls), pytest.raises((StoreFailed, LoadFailed), match=FULL):
            work(archive)

        # Only what came before the rename must be undone; after it, the new item is there whole.
        require_sound(home)
        assert left_behind(home) == []
        if "rose" in {model.tag.name for model in models.list()} or made(home):
            undo(home)
        assert everything(home.parent) == before, calls


def made(home: Path) -> bool:
    return bool(list(home.parent.glob("new*")))


def undo(home: Path) -> None:
    """Remove what the work has made."""
    if any(model.tag.name == "rose" for model in models.list()):
        models.delete("rose")
    for path in sorted(home.parent.glob("new*/*")) + sorted(home.parent.glob("new*")):
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_library_that_reports_the_full_disk_is_understood(home: Path) -> None:
    def save(file: IO[bytes]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.raises(StoreFailed, match="the disk is full, and nothing was kept"),
        models.create("iris", module="headrace.sklearn") as model,
        Path(model.path_of("a")).open("wb") as file,
    ):
        save(file)
    assert left_behind(home) == []
