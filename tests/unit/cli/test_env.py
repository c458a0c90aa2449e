"""`headrace env`: how environments are listed, and which are removed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from headrace.cli.main import main
from headrace.environments.shelf import Place, Record, Shelf
from headrace.settings import ServerSettings


def write(folder: Path, key: str, record: Record | None, used: float = 0.0) -> Place:
    place = Shelf(ServerSettings(environments_dir=str(folder))).place(key)
    place.python.parent.mkdir(parents=True)
    place.python.touch(mode=0o755)
    place.lock().close()
    if record is not None:
        place.finish(record)
        os.utime(place.record_file, (used, used))
    return place


def run(folder: Path, verb: str, *options: str) -> int:
    return main(["env", verb, "--environments-dir", str(folder), *options])


def test_the_table_has_a_line_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = Record("3.11.7", ["a==1", "b", "c", "d", "e"], size=123_456_789)
    write(tmp_path, "aaaa", many, used=86_400 * 365.5)
    write(tmp_path, "bbbb", None)
    held = write(tmp_path, "cccc", Record("3.9.18", ["x.tar.gz"], size=2_500_000_000)).lock()
    held.take(shared=True)

    assert run(tmp_path, "list") == 0

    assert capsys.readouterr().out.splitlines() == [
        "KEY   PYTHON  SIZE    LAST USED   REQUIREMENTS",
        "aaaa  3.11.7  123 MB  1971-01-01  a==1, b, c and 2 more",
        "bbbb  -       -       -           unfinished",
        "cccc  3.9.18  2.5 GB  in use      x.tar.gz",
    ]
    held.close()


def test_json_has_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "aaaa", Record("3.11.7", ["a==1"], created=5.0, seconds=2.0, size=10))

    assert run(tmp_path, "list", "--json") == 0

    (found,) = json.loads(capsys.readouterr().out)
    assert found["key"] == "aaaa"
    assert found["folder"] == str(tmp_path / "aaaa")
    assert (found["finished"], found["in_use"]) == (True, False)
    assert (found["python"], found["size"], found["requirements"]) == ("3.11.7", 10, ["a==1"])


def test_a_folder_that_is_not_there_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "none", "list") == 0
    assert run(tmp_path / "none", "prune", "--all") == 0

    assert capsys.readouterr().out == "no environments\n0 environments removed, 0 B freed\n"
    assert not (tmp_path / "none").exists()


def test_prune_removes_the_old_and_the_unfinished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "old", Record("3.11.7"), used=1000.0)
    write(tmp_path, "unfinished", None)
    young = write(tmp_path, "young", Record("3.11.7"))
    young.mark_used()

    assert run(tmp_path, "prune") == 0

    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        "removed old",
        "removed unfinished",
        "2 environments removed",
        "files shared with the package cache are kept there; --all removes it too",
    ]
    assert young.record() is not None


@pytest.mark.parametrize("days", ["-1", "nan", "many"])
def test_a_wrong_number_of_days_is_refused(
    tmp_path: Path, days: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path, "prune", f"--older-than={days}")

    assert "--older-than" in capsys.readouterr().err
