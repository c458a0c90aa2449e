"""What is written for a builder, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest
import uv

from headrace.errors import ConfigurationError
from headrace.packaging import build_context, headrace_wheel
from headrace.packaging.folder_image import ImageOptions, plan


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "folder"
    place.mkdir()
    (place / "model-settings.json").write_text('{"implementation": "m.M", "name": "m"}')
    (place / "m.py").write_text("class M: pass\n")
    return place


def test_a_dockerfile_of_somebody_else_is_kept(folder):
    (folder / "Dockerfile").write_text("FROM scratch\n")

    with pytest.raises(ConfigurationError, match="was not written by Headrace; --output"):
        build_context.write(plan(folder, ImageOptions()), folder, None)

    assert (folder / "Dockerfile").read_text() == "FROM scratch\n"


def test_writing_again_replaces_our_own(folder):
    build_context.write(plan(folder, ImageOptions()), folder, None)

    build_context.write(plan(folder, ImageOptions(base="localhost/b")), folder, None)

    assert "FROM localhost/b AS build" in (folder / "Dockerfile").read_text()


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret"])
def test_a_link_out_of_the_folder_is_refused_and_named(folder, tmp_path, target):
    (tmp_path / "secret").write_text("s")
    (folder / "sub").mkdir()
    (folder / "sub/data").symlink_to(target if target.startswith("/") else f"../{target}")

    with pytest.raises(ConfigurationError, match=r"'sub/data' is a link that leads out"):
        build_context.fill(tmp_path / "context", folder)


def test_links_inside_the_folder_stay_links(folder, tmp_path):
    (folder / "latest.py").symlink_to("m.py")
    (tmp_path / "context").mkdir()

    build_context.fill(tmp_path / "context", folder)

    assert (tmp_path / "context/models/latest.py").readlink().name == "m.py"


def test_a_staged_context_is_removed_and_leaves_the_models_alone(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))

    with build_context.staged(folder) as context:
        assert (context / "models/m.py").read_text() == "class M: pass\n"

    assert not context.exists()
    assert (folder / "m.py").read_text() == "class M: pass\n"


def test_what_a_folder_ignores_is_ignored_below_models(folder, tmp_path):
    (folder / ".dockerignore").write_text("# data\n/data\n!data/keep\n\n**/*.csv\n")
    (tmp_path / "context").mkdir()

    build_context.fill(tmp_path / "context", folder)

    lines = (tmp_path / "context/.dockerignore").read_text().splitlines()
    assert lines[:3] == ["models/data", "!models/data/keep", "models/**/*.csv"]


def test_a_context_inside_the_folder_is_not_copied_into_itself(folder):
    (folder / "image").mkdir()

    build_context.fill(folder / "image", folder)

    assert not (folder / "image/models/image").exists()


def test_the_same_installation_makes_the_same_wheel_which_runs(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    first, second = headrace_wheel.pack(tmp_path / "a"), headrace_wheel.pack(tmp_path / "b")

    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as wheel:
        assert not [name for name in wheel.namelist() if "__pycache__" in name]
    target = tmp_path / "installed"
    install = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(target), str(first)], check=True)
    assert (target / "headrace/cli/main.py").is_file()
    assert (target / "bin/headrace").is_file()


def test_what_is_not_a_wheel_of_headrace_is_refused(tmp_path):
    (tmp_path / "other-1-py3-none-any.whl").write_bytes(b"")

    with pytest.raises(ConfigurationError, match="--headrace-wheel: expected a wheel of Headrace"):
        headrace_wheel.provide(tmp_path, tmp_path / "other-1-py3-none-any.whl")


def test_what_a_killed_build_has_left_is_removed_by_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    content = tmp_path / "content"
    content.mkdir()
    (content / "model.bin").write_text("weights")
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom headrace.packaging import build_context\n"
        "with build_context.staged(Path(sys.argv[1])):\n    os._exit(3)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, content]).returncode == 3
    left = {path.name for path in (tmp_path / "home/images/.staging").iterdir()}
    assert len(left) == 2

    with build_context.staged(content) as context:
        assert (context / "models/model.bin").read_text() == "weights"
        there = {path.name for path in context.parent.iterdir()}
        assert there == {context.name, f"{context.name}.lock"}
    assert list(context.parent.iterdir()) == []
