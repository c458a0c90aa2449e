"""What the requirements of a bundle may name: packages, and archives in its own folder."""

from __future__ import annotations

import pytest

from headrace.errors import ConfigurationError
from headrace.packaging import build_file, bundle_lock

WHEEL = "mine-1-py3-none-any.whl"


@pytest.fixture
def wanted(tmp_path):
    """What is wanted by a build file of a project that has `outside` next to it."""
    folder = tmp_path / "project"
    for place in (folder, folder / "wheels", tmp_path / "outside"):
        place.mkdir(parents=True)
        (place / WHEEL).touch()
        (place / "more.txt").write_text("six\n")

    def read(text: str, requirements: str = "", **environ: str) -> bundle_lock.Wanted:
        (folder / "requirements.txt").write_text(requirements)
        (folder / "headrace.yaml").write_text(text)
        return bundle_lock.wanted(build_file.read(folder / "headrace.yaml", folder, environ))

    return read


FILE = "python: {requirements_txt: requirements.txt}"


def test_a_requirements_file_may_include_others_of_the_folder_and_itself(wanted):
    found = wanted(FILE, f"-r wheels/more.txt\n-r requirements.txt\nwheels/{WHEEL}\n")

    assert found.lines == ("six", f"./wheels/{WHEEL}")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-r ../outside/more.txt", "line 1 of 'requirements.txt' includes a file that is outside"),
        ("-r /etc/passwd", "line 1 of 'requirements.txt' includes a file that is outside"),
        ("-r /dev/zero", "line 1 of 'requirements.txt' includes a file that is outside"),
        ("-c ../outside/more.txt", "which a bundle cannot have"),
        ("--find-links ../outside", "which a bundle cannot have"),
        ("-e ../outside", "which a bundle cannot have"),
        ("mine @ file:///etc/passwd", "which a bundle cannot have"),
        (f"../outside/{WHEEL}", f"name '../outside/{WHEEL}', which is outside the folder"),
        ("!!", "line 1 of 'requirements.txt' is neither a valid requirement nor a file"),
    ],
)
def test_requirements_that_lead_out_of_the_folder_are_refused(wanted, line, words):
    with pytest.raises(ConfigurationError) as caught:
        wanted(FILE, line)
    assert words in caught.value.message

    with pytest.raises(ConfigurationError):
        wanted(f"python: {{packages: ['{line}']}}")


def test_a_link_does_not_lead_out_either(wanted, tmp_path):
    (tmp_path / "project/link.txt").symlink_to("../outside/more.txt")

    with pytest.raises(ConfigurationError, match="includes a file that is outside"):
        wanted(FILE, "-r link.txt")


def test_the_requirements_of_a_model_elsewhere_may_include_what_is_with_them(wanted, tmp_path):
    text = "python: {requirements_txt: $HEADRACE_MLFLOW_MODEL_PATH/requirements.txt}"
    (tmp_path / "outside/requirements.txt").write_text(f"-r more.txt\n{WHEEL}\n")
    environ = {"HEADRACE_MLFLOW_MODEL_PATH": str(tmp_path / "outside")}

    assert wanted(text, **environ).lines == ("six", f"./wheels/{WHEEL}")

    (tmp_path / "outside/requirements.txt").write_text("-r ../project/more.txt\n")
    with pytest.raises(ConfigurationError, match="includes a file that is outside"):
        wanted(text, **environ)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["more.txt"], "python.wheels: 'more.txt' is not the name of a wheel"),
        (["a --pre.whl"], "python.wheels: 'a --pre.whl' is not the name of a wheel"),
        (["-r.whl"], "python.wheels: '-r.whl' is not the name of a wheel"),
        ([WHEEL, f"wheels/{WHEEL}"], f"there are two wheels named '{WHEEL}'"),
    ],
)
def test_wheels_have_names_that_pip_reads_as_one_archive_each(wanted, tmp_path, names, words):
    for name in names:
        (tmp_path / "project" / name).touch()

    with pytest.raises(ConfigurationError) as caught:
        wanted(f"python: {{wheels: {names}}}")
    assert words in caught.value.message
