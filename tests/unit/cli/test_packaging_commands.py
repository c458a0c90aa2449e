"""`headrace dockerfile`, `build`, `containerize` and `bundles`, as people type them."""

from __future__ import annotations

import json

import pytest

import headrace
from headrace.cli.main import main
from headrace.errors import ConfigurationError
from headrace.sources.folder_source import BUILD_FILES
from headrace.store.kinds import BUNDLE_VARIABLE


class Double:
    def __call__(self, x):
        return x * 2


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(BUNDLE_VARIABLE, "")
    return tmp_path / "home"


@pytest.fixture
def models(tmp_path):
    """A folder of one model of a user's own."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "model-settings.json").write_text('{"implementation": "m.M", "name": "mine"}')
    (folder / "m.py").write_text("class M: pass\n")
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The working directory: a service over a stored model, and its build file."""
    headrace.picklable_model.save_model("double:v1", Double())
    (tmp_path / "service.py").write_text(
        "import headrace\nfrom headrace.io import JSON\n"
        'svc = headrace.Service("doubling", runners=[headrace.models.get("double").to_runner()])\n'
        "@svc.api(input=JSON(), output=JSON())\ndef twice(value):\n    return value\n"
    )
    (tmp_path / "headrace.yaml").write_text(
        "service: service.py:svc\ninclude: [service.py]\npython: {lock_packages: false}\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_dockerfile_writes_in_place_as_mlservers_users_expect(models, monkeypatch, capsys):
    monkeypatch.chdir(models)

    assert main(["dockerfile", "."]) == 0

    assert (models / "Dockerfile").read_text().startswith("# Written by Headrace.")
    assert (models / ".dockerignore").is_file()
    assert "build it with: docker build -t mine ." in capsys.readouterr().out


def test_dockerfile_may_leave_the_dockerignore_and_write_elsewhere(models, tmp_path):
    assert main(["dockerfile", str(models), "--no-include-dockerignore"]) == 0
    assert not (models / ".dockerignore").exists()

    assert main(["dockerfile", str(models), "-o", str(tmp_path / "context")]) == 0
    assert (tmp_path / "context/models/m.py").is_file()
    assert (tmp_path / "context/Dockerfile").is_file()
    assert main(["dockerfile", str(models), "-o", str(tmp_path / "context")]) == 2


def test_dockerfile_of_a_service_and_of_a_stored_model_writes_a_whole_context(project):
    (project / "headrace.yaml").unlink()
    for source, name in (("service.py:svc", "a"), ("double:v1", "b")):
        assert main(["dockerfile", source, "-o", str(project.parent / name)]) == 0

        context = project.parent / name
        assert (context / "models/double/v1/model.yaml").is_file()
        assert (context / "env/python/requirements.lock.txt").is_file()
        assert 'COPY ["env/python/", "/build/"]' in (context / "Dockerfile").read_text()


def test_build_in_a_folder_without_a_build_file_needs_the_name_of_an_image(models, capsys):
    assert main(["build", str(models)]) == 2

    said = capsys.readouterr().err
    assert "headrace.yaml" in said
    assert "-t NAME:TAG builds an image without one" in said


@pytest.mark.parametrize("command", ["build", "dockerfile"])
def test_a_source_that_is_not_there_is_said_to_be_missing(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert main([command, "nothing"]) == 2
    assert "SOURCE 'nothing' does not exist; expected a folder of models" in capsys.readouterr().err

    assert main([command, "gone.py:svc", *(["-t", "a:1"] if command == "build" else [])]) == 2
    assert f"there is no file {tmp_path / 'gone.py'}" in capsys.readouterr().err


def test_without_any_builder_the_way_out_is_named(models, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    assert main(["build", str(models), "-t", "mine:1"]) == 1

    said = capsys.readouterr().err
    assert "found none of docker, podman and buildah" in said
    assert f"headrace dockerfile {models}" in said
    assert "docker build -t mine:1" in said


def test_what_is_not_the_name_of_an_image_is_refused_before_anything_is_built(models, capsys):
    assert main(["build", str(models), "--tag=-x"]) == 2
    assert "--tag: expected the name of an image" in capsys.readouterr().err


def test_build_prints_the_tag_for_scripts_and_bundles_are_listed_and_removed(project, capsys):
    assert main(["build", "-o", "tag", "--version", "v1"]) == 0
    assert capsys.readouterr().out == "__tag__:doubling:v1\n"

    assert main(["build", "--version", "v2"]) == 0
    assert 'Successfully built Bundle(tag="doubling:v2").' in capsys.readouterr().out

    assert main(["bundles", "list", "-o", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [row["tag"] for row in listed] == ["doubling:v1", "doubling:v2"]
    assert listed[0]["digest"] == listed[1]["digest"]

    assert main(["bundles", "get", "doubling:v1", "-o", "path"]) == 0
    assert capsys.readouterr().out.endswith("/home/bundles/doubling/v1\n")
    assert main(["bundles", "get", "doubling"]) == 0
    assert "models" in capsys.readouterr().out

    assert main(["bundles", "delete", "doubling:v1", "--yes"]) == 0
    assert main(["bundles", "get", "doubling:v1"]) == 1
    assert "bundle 'doubling:v1' is not in the store" in capsys.readouterr().err


def test_bundles_move_through_archives_and_object_stores(project, capsys, monkeypatch):
    assert main(["build", "--version", "v1", "--push", (project / "shared").as_uri()]) == 0
    assert main(["bundles", "export", "doubling", str(project / "out.tar.gz")]) == 0
    monkeypatch.setenv("HEADRACE_HOME", str(project / "second"))
    assert main(["bundles", "import", str(project / "out.tar.gz")]) == 0
    assert main(["bundles", "pull", "doubling:v1", (project / "shared").as_uri()]) == 0
    assert main(["bundles", "push", "doubling:v1", (project / "shared").as_uri()]) == 0
    assert "was there already" in capsys.readouterr().out


def test_flags_for_images_of_folders_are_refused_for_bundles(project, capsys):
    assert main(["build", "--name", "x"]) == 2
    assert "--name, --env and --no-mounts are for images of folders" in capsys.readouterr().err


def test_no_flag_is_dropped_without_a_word(project, capsys):
    assert main(["dockerfile", "service.py:svc", "--env", "TEAM=red wine", "-o", "made"]) == 0
    assert 'ENV TEAM="red wine"' in (project / "made/Dockerfile").read_text()
    assert main(["dockerfile", "double:v1", "--env", "A B=1"]) == 2
    assert "--env: expected the name of a variable" in capsys.readouterr().err

    assert main(["build", "--version", "v1"]) == 0
    for source, flags in {
        "service.py:svc": ("--name=x", "--no-mounts"),
        "double:v1": ("--name=x", "--no-mounts"),
        "doubling:v1": (
            "--name=x", "--no-mounts", "--env=A=1", "--base-image=b", "--headrace-wheel=w",
        ),
    }.items():  # fmt: skip
        for flag in flags:
            for command in (["dockerfile"], ["build", "-t", "a:1"]):
                assert main([*command, source, flag]) == 2
                said = capsys.readouterr().err
                assert f"{flag.partition('=')[0]} has no effect on the image of a" in said


def test_a_bundle_and_a_model_of_one_name_are_not_mistaken_for_each_other(project, capsys):
    assert main(["build", "--version", "v1"]) == 0

    assert main(["containerize", "double:v1"]) == 1
    assert "there is none of that name, but a model" in capsys.readouterr().err
    assert main(["models", "get", "doubling"]) == 1
    assert "there is none of that name, but a bundle" in capsys.readouterr().err


def test_a_build_file_is_needed_to_build_a_bundle_in_python(tmp_path):
    with pytest.raises(ConfigurationError, match=f"one of {', '.join(BUILD_FILES)}"):
        headrace.bundles.build(tmp_path)


def test_an_unpacked_bundle_with_links_out_becomes_no_image(project, tmp_path, capsys):
    assert main(["build", "--version", "v1"]) == 0
    capsys.readouterr()
    unpacked = tmp_path / "unpacked"
    assert main(["bundles", "export", "doubling:v1", str(unpacked), "--format", "folder"]) == 0
    (unpacked / "src/secret").symlink_to("/etc/passwd")

    assert main(["dockerfile", str(unpacked), "-o", str(tmp_path / "context")]) == 2

    assert "'src/secret' is a link that leads out of the folder" in capsys.readouterr().err
    assert not (tmp_path / "context").exists()
