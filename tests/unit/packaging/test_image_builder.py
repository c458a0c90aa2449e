"""Which program builds an image, and what it is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.errors import ConfigurationError
from headrace.packaging import image_builder


@pytest.fixture
def bin(tmp_path, monkeypatch):
    """The only folder of programs, with a way to put one there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(name: str, code: int = 0) -> None:
        (folder / name).write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/arguments\n'
            f'for each in "$@"; do case "$each" in --secret=*) '
            f'while read -r line; do echo "$line"; done < "${{each##*src=}}" > {tmp_path}/secret;; '
            f"esac; done\nexit {code}\n"
        )
        (folder / name).chmod(0o755)

    return put


def test_the_first_that_works_is_used(bin):
    bin("docker", code=1)
    bin("buildah")
    bin("podman")

    chosen = image_builder.choose()

    assert chosen is not None
    assert chosen.name == "podman"


def test_there_may_be_none(bin):
    assert image_builder.choose() is None


def test_one_that_is_asked_for_and_does_not_work_is_named(bin):
    with pytest.raises(ConfigurationError, match="--builder: docker is not installed, or its da"):
        image_builder.choose("docker")


def test_tags_and_options_reach_the_program_as_single_words(bin, tmp_path):
    bin("docker")
    builder = image_builder.choose("docker")
    assert builder is not None

    status = image_builder.build(builder, Path("/c x"), ["a:1", "b"], ["--x=$(id)"], os.environ)

    assert status == 0
    words = (tmp_path / "arguments").read_text().splitlines()
    assert [word for word in words if "--secret" not in word] == [
        "build", "--tag=a:1", "--tag=b", "--x=$(id)", "/c x"
    ]  # fmt: skip


def test_indexes_of_pip_are_a_secret_of_the_build_and_folders_of_this_machine_are_not(
    bin, tmp_path
):
    bin("docker")
    builder = image_builder.choose("docker")
    assert builder is not None
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PIP_")},
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "https://me:secret@index/simple",
        "PIP_FIND_LINKS": "/here https://links/",
        "PIP_CERT": "/here/ca.pem",
    }

    image_builder.build(builder, tmp_path, ["a"], [], environ)

    assert (tmp_path / "secret").read_text().splitlines() == [
        "[global]",
        "index-url = https://me:secret@index/simple",
        "find-links = https://links/",
    ]
    assert "me:secret" not in (tmp_path / "arguments").read_text()


def test_a_secret_that_is_given_replaces_ours(bin, tmp_path):
    bin("docker")
    builder = image_builder.choose("docker")
    assert builder is not None

    given = f"--secret=id=pip-conf,src={os.devnull}"
    image_builder.build(
        builder, tmp_path, ["a"], [given], {**os.environ, "PIP_INDEX_URL": "https://x/"}
    )

    words = (tmp_path / "arguments").read_text().splitlines()
    assert [word for word in words if word.startswith("--secret")] == [given]
