"""What MLflow recorded about the environment that a model was trained in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.archives.walking import resolved
from headrace.environments import yaml_file
from headrace.errors import InvalidModel, shorten
from headrace.settings import MIB

LARGEST_MLMODEL = 16 * MIB

_CONDA_PYTHON = re.compile(r"python\s*([=<>!~].*)?$")
_CONDA_NAME = re.compile(r"(?:[\w.-]+::)?([\w.-]+)")


@dataclass(frozen=True)
class Saved:
    """The first of `python_env.yaml`, `conda.yaml` and `requirements.txt` that exists.

    `python` is as written and may be empty. `requirements` are lines for pip, relative to
    `folder`. `conda_only` are packages that only conda would install. `loader` is the module
    that MLflow loads the model with, and `is_configured` says whether it gets a configuration.
    """

    folder: Path
    python: str = ""
    requirements: tuple[str, ...] = ()
    conda_only: tuple[str, ...] = ()
    loader: str = ""
    is_configured: bool = False


def read(uri: str) -> Saved | None:
    """What is saved with the model at a local path; None where there is no MLflow model.

    Raises:
        InvalidModel: a file cannot be read, or does not have the expected shape.
    """
    folder = Path(uri).parent if Path(uri).name == "MLmodel" else Path(uri)
    if not uri or not (folder / "MLmodel").is_file():
        return None
    flavors = _mapping(yaml_file.read(folder / "MLmodel", LARGEST_MLMODEL).get("flavors"))
    pyfunc = _mapping(flavors.get("python_function"))
    python, requirements, conda_only = _environment(folder, pyfunc.get("env"))
    return Saved(
        folder,
        python,
        tuple(requirements),
        tuple(conda_only),
        str(pyfunc.get("loader_module") or ""),
        # The ways to write nothing or an empty mapping in YAML.
        pyfunc.get("config") not in (None, "", "null", "~", {}),
    )


def _environment(folder: Path, env: Any) -> tuple[str, list[str], list[str]]:
    """Python, requirements, and packages that only conda installs."""
    # MLflow 1 wrote the name of conda's file, later versions a mapping of both files.
    names = {"conda": env} if isinstance(env, str) and env else _mapping(env)
    if file := _file(folder, names.get("virtualenv") or "python_env.yaml"):
        content = yaml_file.read(file)
        python = content.get("python") or ""
        _check(isinstance(python, str), file, "python: expected a version")
        return python, _texts(content.get("dependencies"), file), []
    if file := _file(folder, names.get("conda") or "conda.yaml"):
        return of_conda(file)
    if _file(folder, "requirements.txt"):
        return "", ["-r requirements.txt"], []
    return "", [], []


def of_conda(file: Path) -> tuple[str, list[str], list[str]]:
    """Of conda's environment file: Python, requirements for pip, what conda alone installs.

    Raises:
        InvalidModel: it cannot be read, or does not have the expected shape.
    """
    python, requirements, conda_only = "", [], []
    dependencies = yaml_file.read(file).get("dependencies") or []
    _check(isinstance(dependencies, list), file, "dependencies: expected a list")
    for entry in dependencies:
        if isinstance(entry, dict):
            requirements += _texts(entry.get("pip"), file)
            continue
        _check(isinstance(entry, str), file, "dependencies: expected names and `pip`")
        if match := _CONDA_PYTHON.match(entry):
            python = (match[1] or "").strip()
        elif (match := _CONDA_NAME.match(entry)) and match[1] != "pip":
            conda_only.append(match[1])
    return python, requirements, conda_only


def _file(folder: Path, name: Any) -> Path | None:
    """A file in the model's folder, or None; never one outside it."""
    file = folder / str(name)
    if not file.is_file():
        return None
    if not resolved(file).is_relative_to(folder.resolve()):
        raise InvalidModel(f"'{shorten(file.name)}' is not in the model's folder")
    return file


def _texts(values: Any, file: Path) -> list[str]:
    values = values or []
    sound = isinstance(values, list) and all(isinstance(value, str) for value in values)
    _check(sound, file, "requirements: expected a list of lines")
    return list(values)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _check(holds: bool, file: Path, otherwise: str) -> None:
    if not holds:
        raise InvalidModel(f"'{shorten(file.name)}': {otherwise}")
