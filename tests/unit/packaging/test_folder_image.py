"""What the image of a folder gets installed, by the files in the folder."""

from __future__ import annotations

import json
import sys

import pytest

from headrace.errors import ConfigurationError
from headrace.packaging import folder_requirements
from headrace.packaging.folder_image import ImageOptions, plan
from headrace.packaging.image_text import dockerfile

RUNNING = "{}.{}".format(*sys.version_info)


def model(folder, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model-settings.json").write_text(json.dumps({"implementation": "m.M", **settings}))


def test_a_models_runtime_decides_the_extras_unless_the_folder_lists_its_framework(tmp_path):
    model(tmp_path / "a", implementation="mlserver_sklearn.SKLearnModel")
    model(tmp_path / "b", implementation="xgboost")
    assert plan(tmp_path, ImageOptions()).extras == ("sklearn", "xgboost")

    (tmp_path / "requirements.txt").write_text("scikit-learn==1.3.2\nxgboost-cpu\n")

    found = plan(tmp_path, ImageOptions())
    assert found.extras == ()
    assert found.requirements == ("scikit-learn==1.3.2", "xgboost-cpu")


def test_a_model_with_an_environment_of_its_own_adds_nothing_to_the_servers(tmp_path):
    model(tmp_path, implementation="sklearn", environment={"packages": ["scikit-learn"]})

    assert plan(tmp_path, ImageOptions()).extras == ()


@pytest.mark.parametrize("name", folder_requirements.CONDA_FILES)
def test_condas_file_gives_the_python_and_what_pip_installs_and_the_rest_is_named(tmp_path, name):
    model(tmp_path)
    (tmp_path / name).write_text(
        "name: x\nchannels: [conda-forge]\n"
        "dependencies: [python=3.12.4, openjdk, pip, {pip: [nltk==3.9.1]}]\n"
    )

    found = plan(tmp_path, ImageOptions())

    assert found.image.base == "python:3.12-slim"
    assert found.requirements == ("nltk==3.9.1",)
    assert "'openjdk': left out, since only conda installs them" in found.notes[0]


def test_condas_file_and_requirements_are_both_installed(tmp_path):
    model(tmp_path)
    (tmp_path / "environment.yaml").write_text("dependencies: [pip, {pip: [nltk==3.9.1]}]\n")
    (tmp_path / "requirements.txt").write_text("spacy\n")

    assert plan(tmp_path, ImageOptions()).requirements == ("nltk==3.9.1", "spacy")


def test_a_python_too_old_for_the_server_is_refused_with_the_way_out(tmp_path):
    model(tmp_path)
    (tmp_path / "conda.yaml").write_text("dependencies: [python=3.8]\n")

    with pytest.raises(ConfigurationError, match=r"asks for Python 3\.8.*environment\.python"):
        plan(tmp_path, ImageOptions())


def test_mlserver_itself_is_left_out_of_what_is_installed(tmp_path):
    model(tmp_path)
    (tmp_path / "requirements.txt").write_text("mlserver==1.3.5\nmlserver-sklearn\nnltk\n")

    found = plan(tmp_path, ImageOptions())

    assert found.requirements == ("nltk",)
    assert "'mlserver', 'mlserver-sklearn': left out" in found.notes[0]


def test_files_that_requirements_name_are_copied_before_they_are_installed(tmp_path):
    model(tmp_path)
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/mine-1-py3-none-any.whl").write_bytes(b"")
    (tmp_path / "requirements.txt").write_text("./wheels/mine-1-py3-none-any.whl\n-f wheels\n")

    found = plan(tmp_path, ImageOptions())

    assert found.requirements == ("/models/wheels/mine-1-py3-none-any.whl", "-f /models/wheels")
    lines = dockerfile(found.image).splitlines()
    copied = lines.index('COPY [".", "/models/"]')
    assert copied < next(n for n, line in enumerate(lines) if '"pip", "install"' in line)


@pytest.mark.parametrize("line", ["-e ..", "../other-1-py3-none-any.whl", "-c ../constraints.txt"])
def test_requirements_outside_the_folder_are_refused(tmp_path, line):
    folder = tmp_path / "folder"
    model(folder)
    (tmp_path / "other-1-py3-none-any.whl").write_bytes(b"")
    (tmp_path / "constraints.txt").write_text("")
    (folder / "requirements.txt").write_text(line + "\n")

    with pytest.raises(ConfigurationError, match="which is outside the folder"):
        plan(folder, ImageOptions())


def test_a_single_model_keeps_its_name_and_several_have_theirs(tmp_path):
    model(tmp_path / "wine")
    one = plan(tmp_path, ImageOptions())
    assert one.image.env == {"MLSERVER_MODEL_NAME": "wine"}

    model(tmp_path / "iris")
    assert plan(tmp_path, ImageOptions()).image.env == {}


def test_a_folder_without_models_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="holds no model"):
        plan(tmp_path, ImageOptions())


def test_the_base_is_of_the_running_python_unless_models_or_the_flag_say_otherwise(tmp_path):
    model(tmp_path)
    assert plan(tmp_path, ImageOptions()).image.base == f"python:{RUNNING}-slim"

    model(tmp_path, environment={"python": "3.13", "packages": ["numpy"]})
    assert plan(tmp_path, ImageOptions()).image.base == "python:3.13-slim"

    assert plan(tmp_path, ImageOptions(base="localhost/x")).image.base == "localhost/x"


def test_models_are_the_last_layer_and_nothing_is_built_as_their_user(tmp_path):
    model(tmp_path)

    lines = dockerfile(plan(tmp_path, ImageOptions()).image).splitlines()

    assert lines[-1] == 'COPY --chown=1000:1000 [".", "/models/"]'
    last = lines[[n for n, line in enumerate(lines) if line.startswith("FROM ")][-1] :]
    assert not any(line.startswith("RUN ") for line in last)
    assert "USER 1000:1000" in last
    assert 'CMD ["serve"]' in last


def test_without_mounts_an_old_builder_gets_plain_instructions(tmp_path):
    model(tmp_path)

    text = dockerfile(plan(tmp_path, ImageOptions(mounts=False)).image)

    assert "--mount" not in text
    assert text.index('COPY [".", "/models/"]') < text.index('"env", "build", "/models"')
