"""The folder of environments: what counts as finished, and who may remove it."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from headrace.environments.environments import Environments
from headrace.environments.shelf import Lock, Place, Record, Shelf
from headrace.settings import ServerSettings

NEVER = 0.0
RECORD = Record("3.11.7", ["six"], created=1.0, seconds=2.0, size=3)


def shelf(folder: Path) -> Shelf:
    return Shelf(ServerSettings(environments_dir=str(folder)))


def filled(folder: Path, key: str = "k", record: Record | None = RECORD) -> Place:
    place = shelf(folder).place(key)
    place.lock().close()
    place.python.parent.mkdir(parents=True)
    place.python.write_text("#!/bin/sh\n")
    place.python.chmod(0o755)
    if record is not None:
        place.finish(record)
    return place


def test_what_is_removed_while_it_is_locked_is_not_taken(tmp_path: Path) -> None:
    place = filled(tmp_path)

    class Late(Lock):
        def take(self, *, shared: bool) -> bool:
            place.wipe()
            return super().take(shared=shared)

    assert not Environments._take(place, Late(place.lock().fd))
    assert not place.is_in_use()


def test_the_end_of_a_server_counts_as_use_of_its_environments(tmp_path: Path) -> None:
    place = filled(tmp_path)
    os.utime(place.record_file, (0, 0))
    environments = Environments(ServerSettings(environments_dir=str(tmp_path)))
    environments._held["k"] = place.lock()
    asyncio.run(environments.close())

    assert time.time() - place.last_used() < 60
    assert not place.is_in_use()


def test_environments_are_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", "/somewhere")

    assert Shelf(ServerSettings()).folder == Path("/somewhere/environments")


def test_a_user_without_a_home_causes_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HEADRACE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)

    assert Shelf(ServerSettings()).folder == Path("/headrace/environments")


def test_only_an_environment_with_its_record_counts(tmp_path: Path) -> None:
    assert filled(tmp_path, "a").record() == RECORD
    assert filled(tmp_path, "b", None).record() is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"size": 1}',
        b'{"python": "3", "created": "x"}',
        b'{"python": "\xff"}',
    ],
)
def test_a_damaged_record_is_none(tmp_path: Path, content: bytes) -> None:
    place = filled(tmp_path)
    place.record_file.write_bytes(content)

    assert place.record() is None


def test_an_environment_whose_python_is_gone_is_not_there(tmp_path: Path) -> None:
    place = filled(tmp_path)
    place.python.unlink()
    place.python.symlink_to(tmp_path / "removed")

    assert place.record() is None


def test_old_environments_are_pruned_and_young_ones_stay(tmp_path: Path) -> None:
    old, young = filled(tmp_path, "old"), filled(tmp_path, "young")
    os.utime(old.record_file, (1000, 1000))

    freed = {each.key: shelf(tmp_path).prune(each, 2000.0) for each in shelf(tmp_path).places()}

    assert freed["young"] is None
    assert (freed["old"] or 0) > 0
    assert not old.folder.exists()
    assert young.record() is not None


def test_an_environment_in_use_is_never_pruned(tmp_path: Path) -> None:
    place = filled(tmp_path)
    lock = place.lock()
    lock.take(shared=True)

    assert place.is_in_use()
    assert shelf(tmp_path).prune(place, time.time() + 100) is None

    lock.close()
    assert not place.is_in_use()
    assert shelf(tmp_path).prune(place, time.time() + 100) is not None


def test_what_was_left_unfinished_is_always_pruned(tmp_path: Path) -> None:
    place = filled(tmp_path, record=None)

    assert shelf(tmp_path).prune(place, NEVER) is not None
    assert not place.folder.exists()


def test_a_process_that_inherits_a_lock_holds_it(tmp_path: Path) -> None:
    first, second = filled(tmp_path).lock(), shelf(tmp_path).place("k").lock()
    assert first.take(shared=False)
    inherited = os.dup(first.fd)
    # As when its process is killed.
    os.close(first.fd)

    assert not second.take(shared=True)
    os.close(inherited)
    assert second.take(shared=True)
    second.close()


def test_a_lock_that_is_closed_is_released_where_it_was_inherited(tmp_path: Path) -> None:
    first, second = filled(tmp_path).lock(), shelf(tmp_path).place("k").lock()
    assert first.take(shared=False)
    inherited = os.dup(first.fd)
    first.close()

    assert second.take(shared=False)
    os.close(inherited)
    second.close()


def test_a_file_in_an_environment_is_not_taken_for_its_record(tmp_path: Path) -> None:
    place = filled(tmp_path, record=None)
    for name in ("environment.json", place.record_file.name):
        (place.folder / name).write_text(json.dumps(asdict(RECORD)))

    assert place.record() is None
