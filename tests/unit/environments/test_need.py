"""What a model needs: settings come before MLflow's files, and these in MLflow's order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.environments import need
from headrace.environments.need import RUNNING, Need
from headrace.errors import LoadFailed
from headrace.settings import ModelSettings

SKLEARN = "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n"
PYFUNC = "flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n"


def saved(folder: Path, mlmodel: str = SKLEARN, **files: str) -> Path:
    """An MLflow folder; `files` are named like `python_env_yaml`, with `_` for the last dot."""
    (folder / "MLmodel").write_text(mlmodel)
    for name, content in files.items():
        (folder / ".".join(name.rsplit("_", 1))).write_text(content)
    return folder


def of(uri: Path | str = "", implementation: str = "mlflow", **settings: Any) -> Need:
    return need.of_model(ModelSettings("m", implementation, uri=str(uri), **settings))


def texts(found: Need) -> list[str]:
    return [line.text for line in found.lines]


def test_a_model_that_says_nothing_needs_nothing(tmp_path: Path) -> None:
    assert not of(tmp_path, "sklearn").is_stated
    assert not of(saved(tmp_path)).is_stated


def test_requirements_next_to_a_model_that_is_not_mlflows_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("a")

    assert not of(tmp_path, "sklearn").is_stated


def test_python_env_comes_before_conda_and_that_before_requirements(tmp_path: Path) -> None:
    saved(tmp_path, requirements_txt="r")
    assert texts(of(tmp_path)) == ["r"]

    saved(tmp_path, conda_yaml="dependencies: [python=3.10.4, pip, {pip: [c==1]}]")
    assert (texts(of(tmp_path)), of(tmp_path).python) == (["c==1"], "3.10")

    saved(tmp_path, python_env_yaml="python: 3.10\ndependencies: [-r requirements.txt, p]")
    assert (texts(of(tmp_path)), of(tmp_path).python) == (["r", "p"], "3.10")


@pytest.mark.parametrize("env", ["other.yaml", "{conda: other.yaml}"])
def test_mlmodel_may_name_the_file_itself(tmp_path: Path, env: str) -> None:
    saved(tmp_path, f"{SKLEARN}    env: {env}\n", other_yaml="dependencies: [{pip: [x]}]")

    assert texts(of(tmp_path)) == ["x"]


def test_packages_that_only_conda_installs_are_remembered(tmp_path: Path) -> None:
    conda = "dependencies: [python=3.11, pip<=23, conda-forge::scikit-learn=1, {pip: [a]}]"

    assert of(saved(tmp_path, conda_yaml=conda)).conda_only == ("scikit-learn",)


def test_settings_replace_requirements_and_add_packages(tmp_path: Path) -> None:
    saved(tmp_path, python_env_yaml="python: 3.10.2\ndependencies: [-r none.txt]")
    (tmp_path / "mine.txt").write_text("mine")

    replaced = of(tmp_path, environment={"requirements": str(tmp_path / "mine.txt")})
    listed = of(tmp_path, environment={"requirements": ["x"], "packages": ["y"], "python": "3.12"})

    assert (texts(replaced), replaced.python) == (["mine"], "3.10")
    assert (texts(listed), listed.python) == (["x", "y"], "3.12")


def test_packages_are_added_to_the_models_own(tmp_path: Path) -> None:
    saved(tmp_path, requirements_txt="a")

    assert texts(of(tmp_path, environment={"packages": ["b"]})) == ["a", "b"]


def test_an_environment_gets_what_a_worker_needs(tmp_path: Path) -> None:
    assert of(saved(tmp_path, requirements_txt="a")).installed() == ["a", "numpy", "pyyaml"]
    assert of("", "x:Y", environment={"packages": ["NumPy<2"]}).installed() == ["NumPy<2"]
    conditional = of("", "x:Y", environment={"packages": ["numpy; python_version<'3'"]})
    assert conditional.installed()[1:] == ["numpy"]


def test_the_key_depends_on_the_content(tmp_path: Path) -> None:
    def key(name: str, requirements: str) -> str:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return of(saved(folder, requirements_txt=requirements)).key()

    assert key("a", "x\ny==1") == key("b", "# two\ny==1\nx\n") != key("a", "x\ny==2")


@pytest.mark.parametrize(
    ("wanted", "python"),
    [("=3.11.7", "3.11"), ("==3.9.*", "3.9"), ("=3.12", "3.12"), (">=3.8", None), ("", None)],
)
def test_the_python_is_a_minor_version(tmp_path: Path, wanted: str, python: str | None) -> None:
    saved(tmp_path, conda_yaml=f"dependencies: ['python{wanted}']")

    assert of(tmp_path).python == python


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("3.8.18", "asks for Python 3.8, and workers need 3.9 or later"),
        (">=4", f"nor a range that includes the server's {RUNNING}"),
        ("pypy", "which is neither one minor version"),
    ],
)
def test_other_pythons_are_refused(wanted: str, message: str) -> None:
    with pytest.raises(LoadFailed, match=message):
        of("", "x:Y", environment={"python": wanted})


@pytest.mark.parametrize(
    ("mlmodel", "implementation", "native"),
    [
        (SKLEARN, "mlflow", True),
        (SKLEARN, "mlserver_mlflow.MLflowRuntime", True),
        (SKLEARN, "my:Plugin", False),
        (SKLEARN + "    config: {a: 1}\n", "mlflow", False),
        (SKLEARN + "    config: null\n", "mlflow", True),
        (PYFUNC, "mlflow", False),
    ],
)
def test_native_models_are_those_that_load_without_mlflow(
    tmp_path: Path, mlmodel: str, implementation: str, native: bool
) -> None:
    assert of(saved(tmp_path, mlmodel), implementation).native is native


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("MLmodel", "{", "'MLmodel' is not valid YAML"),
        ("MLmodel", "- a", "'MLmodel': expected a mapping"),
        ("MLmodel", "a: " + "[" * 100, "'MLmodel' is nested deeper than 64 levels"),
        ("conda.yaml", "dependencies: a", "'conda.yaml': dependencies: expected a list"),
        ("conda.yaml", "dependencies: [[a]]", "'conda.yaml': dependencies: expected names"),
        ("conda.yaml", "dependencies: [{pip: a}]", "'conda.yaml': requirements: expected a list"),
        ("python_env.yaml", "python: [3]", "'python_env.yaml': python: expected a version"),
        ("python_env.yaml", "a" * 2**20 + "b", "'python_env.yaml' is larger than 1048576 bytes"),
        ("python_env.yaml", "dependencies: [{a: 1}]", "requirements: expected a list of lines"),
    ],
)
def test_files_of_another_shape_are_refused_by_name(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    saved(tmp_path)
    (tmp_path / name).write_text(content)

    with pytest.raises(LoadFailed) as failure:
        of(tmp_path)

    assert message in failure.value.message
    assert str(tmp_path) not in failure.value.message


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_nesting_that_would_end_the_process_is_refused(tmp_path: Path, opening: str) -> None:
    saved(tmp_path, opening * 200_000)

    with pytest.raises(LoadFailed, match="nested deeper"):
        of(tmp_path)


def test_a_file_outside_the_models_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("dependencies: []")
    (tmp_path / "m").mkdir()
    saved(tmp_path / "m", f"{SKLEARN}    env: ../secret.yaml\n")

    with pytest.raises(LoadFailed, match=r"'secret.yaml' is not in the model's folder"):
        of(tmp_path / "m")
