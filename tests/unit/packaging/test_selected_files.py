"""Which files a bundle gets."""

from __future__ import annotations

import os

import pytest

from headrace.errors import ConfigurationError
from headrace.packaging import selected_files


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "project"
    for name in ("service.py", "data/a.csv", "data/b.bin", "tests/test_a.py", ".git/config",
                 "pkg/__pycache__/x.pyc", "pkg/m.py"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_patterns_are_those_of_a_gitignore(folder):
    assert selected_files.select(folder, ["*"], []) == [
        "data/a.csv", "data/b.bin", "pkg/m.py", "service.py", "tests/test_a.py"
    ]  # fmt: skip
    assert selected_files.select(folder, ["*.py", "data/*.csv"], ["tests/"]) == [
        "data/a.csv", "pkg/m.py", "service.py"
    ]  # fmt: skip
    assert selected_files.select(folder, ["/*.py"], []) == ["service.py"]


@pytest.mark.parametrize("name", selected_files.IGNORE_FILES)
def test_an_ignore_file_counts_from_its_folder_down(folder, name):
    (folder / "data" / name).write_text("# kept out\n*.bin\n/service.py\n")

    found = selected_files.select(folder, ["*"], [])

    assert "data/b.bin" not in found
    assert {"data/a.csv", "service.py"} <= set(found)
    assert f"data/{name}" not in found


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside"])
def test_a_link_out_of_the_folder_is_refused_unless_it_is_excluded(folder, tmp_path, target):
    (tmp_path / "outside").write_text("secret")
    (folder / "data/link").symlink_to(target)

    with pytest.raises(ConfigurationError, match="'data/link' is a link that leads out of the fol"):
        selected_files.select(folder, ["*"], [])
    assert "data/link" not in selected_files.select(folder, ["*"], ["data/link"])


def test_a_link_to_a_folder_outside_is_refused(folder):
    (folder / "etc").symlink_to("/etc")

    with pytest.raises(ConfigurationError, match="'etc' is a link that leads out of the folder"):
        selected_files.select(folder, ["*"], [])


def test_a_line_break_in_the_name_of_a_file_is_refused(folder):
    (folder / "a\nb").write_text("")

    with pytest.raises(ConfigurationError, match=r"the name of 'a\\nb' has a line break"):
        selected_files.select(folder, ["*"], [])


def test_a_pipe_is_refused(folder):
    os.mkfifo(folder / "pipe")

    with pytest.raises(ConfigurationError, match="'pipe' is neither a file nor a folder"):
        selected_files.select(folder, ["*"], [])


def test_links_inside_the_folder_become_files_and_programs_stay_programs(folder, tmp_path):
    (folder / "latest.csv").symlink_to("data/a.csv")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o700)

    selected_files.copy(folder, ["latest.csv", "run.sh"], tmp_path / "copy")

    assert not (tmp_path / "copy/latest.csv").is_symlink()
    assert (tmp_path / "copy/latest.csv").read_text() == "data/a.csv"
    assert (tmp_path / "copy/run.sh").stat().st_mode & 0o777 == 0o755


def test_links_in_a_circle_are_refused(folder):
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")

    with pytest.raises(ConfigurationError, match="'a' is neither a file nor a folder"):
        selected_files.select(folder, ["*"], [])


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.write_bytes(b"\xff\xfe\xff")])
def test_an_ignore_file_that_is_no_text_is_refused(folder, make):
    make(folder / ".headraceignore")

    with pytest.raises(ConfigurationError, match=r"'.headraceignore' is not"):
        selected_files.select(folder, ["*"], [])
