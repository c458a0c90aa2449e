"""Requirement files as pip reads them, flat and with what they refer to."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.environments import lines, satisfaction
from headrace.environments.need import Need
from headrace.errors import LoadFailed


def texts(found: list[lines.Line]) -> list[str]:
    return [line.text for line in found]


def test_comments_and_empty_lines_are_dropped_and_continued_lines_joined(tmp_path: Path) -> None:
    found = lines.parse(["# all", "", "a==1  # why", "b>=2 \\", "  ,<3", "c#not"[:1]], tmp_path)

    assert texts(found) == ["a==1", "b>=2 ,<3", "c"]
    assert [line.requirement is not None for line in found] == [True, True, True]


def test_a_hash_inside_a_url_is_not_a_comment(tmp_path: Path) -> None:
    found = lines.parse(["git+https://host/x.git#egg=x"], tmp_path)

    assert texts(found) == ["git+https://host/x.git#egg=x"]


@pytest.mark.parametrize("form", ["-r more.txt", "-rmore.txt", "--requirement=more.txt"])
def test_included_files_take_the_place_of_their_line(tmp_path: Path, form: str) -> None:
    (tmp_path / "more.txt").write_text("b\n-r sub/most.txt\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/most.txt").write_text("c")

    assert texts(lines.parse(["a", form, "d"], tmp_path)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_is_read_in_the_encodings_that_pip_reads(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "all.txt").write_text("a\nb", encoding)

    assert texts(lines.read(tmp_path / "all.txt")) == ["a", "b"]


def test_files_that_include_each_other_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("-r b.txt\na")
    (tmp_path / "b.txt").write_text("-r a.txt\nb")

    assert texts(lines.read(tmp_path / "a.txt")) == ["b", "a"]


def test_paths_become_absolute_and_texts_stay(tmp_path: Path) -> None:
    (tmp_path / "x-1-py3-none-any.whl").write_bytes(b"wheel")
    (tmp_path / "limits.txt").write_text("a<2")
    (tmp_path / "project").mkdir()

    found = lines.parse(
        ["./x-1-py3-none-any.whl", "-c limits.txt", "-e ./project", "--find-links ."], tmp_path
    )

    assert [line.install for line in found] == [
        f"{tmp_path}/x-1-py3-none-any.whl",
        f"-c {tmp_path}/limits.txt",
        f"-e {tmp_path}/project",
        f"--find-links {tmp_path}",
    ]
    assert [line.is_option for line in found] == [False, True, False, True]
    assert [line.text.startswith(str(tmp_path)) for line in found] == [False] * 4


def test_a_local_project_may_have_extras(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()

    (line,) = lines.parse(["-e project[test]"], tmp_path)

    assert line.install == f"-e {tmp_path}/project[test]"


def test_tabs_separate_like_spaces(tmp_path: Path) -> None:
    assert texts(lines.parse(["a>=1,\t<2\t# why"], tmp_path)) == ["a>=1, <2"]


def test_a_remote_file_counts_as_something_to_install(tmp_path: Path) -> None:
    found = lines.parse(["-r https://host/requirements.txt"], tmp_path)

    assert Need(lines=tuple(found)).is_stated
    assert satisfaction.unmet(Need(lines=tuple(found))) == ["a file or URL"]


@pytest.mark.parametrize("text", ["--find-links wheels", "-e wheels"])
def test_the_same_path_below_another_folder_is_another_need(tmp_path: Path, text: str) -> None:
    keys = []
    for folder, wheel in (("a", "small-1.whl"), ("b", "small-2.whl")):
        (tmp_path / folder / "wheels").mkdir(parents=True)
        (tmp_path / folder / "wheels" / wheel).touch()
        keys.append(Need(lines=tuple(lines.parse([text], tmp_path / folder))).key())

    assert keys[0] != keys[1]


def test_what_an_included_file_holds_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("# some\n\nuser:password\n")

    with pytest.raises(LoadFailed) as failure:
        lines.parse(["-r secrets"], tmp_path)

    assert failure.value.message == (
        "line 3 of 'secrets' is neither a valid requirement nor a file"
    )


@pytest.mark.parametrize("text", ["./x.whl", "-c x.whl", "{}/x.whl", "x @ file://{}/x.whl"])
def test_the_content_of_a_file_distinguishes_lines(tmp_path: Path, text: str) -> None:
    def content(data: bytes) -> str:
        (tmp_path / "x.whl").write_bytes(data)
        return lines.parse([text.format(tmp_path)], tmp_path)[0].content

    assert content(b"1") == content(b"1") != content(b"2")


def test_a_package_is_not_mistaken_for_a_folder_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "numpy").mkdir()

    assert lines.parse(["numpy"], tmp_path)[0].requirement is not None


def test_hashes_stay_with_their_requirement(tmp_path: Path) -> None:
    (line,) = lines.parse(["a==1 --hash=sha256:00 --hash=sha256:11"], tmp_path)

    assert line.install == "a==1 --hash=sha256:00 --hash=sha256:11"
    assert str(line.requirement) == "a==1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("numpy=1.0", "'numpy=1.0' is neither a valid requirement nor a file"),
        ("-r none.txt", "'none.txt' cannot be read: No such file or directory"),
        ("-c none.txt", "'none.txt', which its requirements name: No such file or directory"),
        ("-r binary", "'binary' is not UTF-8 text"),
        ("-r large", "'large' is larger than 1048576 bytes"),
        ("-r pipe", "'pipe' is not a file"),
        ("-c pipe", "'pipe', which its requirements name, is not a file"),
        ("a\0b", r"'a\x00b' has characters that no requirement has"),
    ],
)
def test_what_cannot_be_read_is_named_without_its_folder(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xff")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"a" * 2**20 + b"a")

    with pytest.raises(LoadFailed) as failure:
        lines.parse([text], tmp_path)

    assert failure.value.message == message


def test_endless_includes_are_refused(tmp_path: Path) -> None:
    for number in range(lines.MOST_FILES + 1):
        (tmp_path / f"{number}").write_text(f"-r {number + 1}")

    with pytest.raises(LoadFailed, match="include more than 64 files"):
        lines.read(tmp_path / "0")


PIECES = ["a", "==1", " ", "-", "r", "c", "e", "f", "://", "[", "]", "file:", "@", ";", "\\", "\0"]
PIECES += ["--", "=", "#", "python_version", "<", "'3'", "./", "/a", "%2", "é", '"', "git+"]


@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), max_size=4))
def test_no_line_fails_in_any_other_way(tmp_path: Path, written: list[str]) -> None:
    with contextlib.suppress(LoadFailed):
        satisfaction.unmet(Need(None, tuple(lines.parse(written, tmp_path))))
