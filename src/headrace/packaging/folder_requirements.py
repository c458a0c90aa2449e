"""What a folder of models asks to have installed next to Headrace."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from headrace.archives.walking import resolved
from headrace.environments import lines, mlflow_files
from headrace.environments.lines import Line
from headrace.errors import ConfigurationError, InvalidModel, shorten

CONDA_FILES = ("environment.yml", "environment.yaml", "conda.yml", "conda.yaml")
PIP_FILE = "requirements.txt"
OLDEST_SERVER = (3, 11)

_MINOR = re.compile(r"={0,2}\s*(\d+)\.(\d+)(\.[\w*]+)*$")


@dataclass(frozen=True)
class FolderRequirements:
    """`lines` for pip, with paths below the folder as they will be in the image.

    `python` is a minor version such as "3.11", or None. `replaced` are packages of MLServer that
    Headrace takes the place of, and `conda_only` those that conda alone would install; both are
    left out. `names_files` says whether a line names a file of the folder.
    """

    python: str | None = None
    lines: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    replaced: tuple[str, ...] = ()
    conda_only: tuple[str, ...] = ()
    names_files: bool = False


def read(folder: Path, target: str) -> FolderRequirements:
    """What the folder's conda file and its `requirements.txt` list; it will be at `target`.

    Raises:
        ConfigurationError: a file cannot be understood, or names a file outside the folder.
    """
    try:
        python, found, conda_only = _read(folder)
    except InvalidModel as error:
        raise ConfigurationError(f"{folder}: {error.message}") from None
    kept, replaced, names = without_mlserver(found)
    moved = [_moved(line, folder, target) for line in kept]
    return FolderRequirements(
        _minor(python, folder),
        tuple(moved),
        names,
        replaced,
        tuple(conda_only),
        moved != [line.install for line in kept],
    )


def without_mlserver(found: list[Line]) -> tuple[list[Line], tuple[str, ...], frozenset[str]]:
    """The lines without MLServer's packages, the names of those, and the names of all."""
    named = [
        (canonicalize_name(line.requirement.name) if line.requirement else "", line)
        for line in found
    ]
    ours = [name for name, _ in named if name == "mlserver" or name.startswith("mlserver-")]
    kept = [line for name, line in named if name not in ours]
    return kept, tuple(ours), frozenset(name for name, _ in named if name)


def _read(folder: Path) -> tuple[str, list[Line], list[str]]:
    python, conda_only = "", list[str]()
    found: list[Line] = []
    conda = next((folder / name for name in CONDA_FILES if (folder / name).is_file()), None)
    if conda is not None:
        python, listed, conda_only = mlflow_files.of_conda(conda)
        found += lines.parse(listed, folder, folder)
    if (folder / PIP_FILE).is_file():
        found += lines.read(folder / PIP_FILE, folder)
    return python, found, conda_only


def _moved(line: Line, folder: Path, target: str) -> str:
    """The line with paths below the folder replaced by those in the image."""
    if not line.content and line.install == line.text:
        return line.install
    option, separator, path = line.install.rpartition(" ")
    prefix, path = ("file://", path[7:]) if path.startswith("file://") else ("", path)
    bare, bracket, extras = path.partition("[")
    place = resolved(Path(bare))
    if not place.is_relative_to(folder.resolve()):
        raise ConfigurationError(
            f"{folder}: its requirements name '{shorten(line.text)}', which is outside the "
            "folder, so the image would not have it"
        )
    inner = place.relative_to(folder.resolve()).as_posix()
    return f"{option}{separator}{prefix}{target}/{inner}{bracket}{extras}"


def _minor(python: str, folder: Path) -> str | None:
    match = _MINOR.match(python.strip())
    if match is None:
        return None
    if (int(match[1]), int(match[2])) < OLDEST_SERVER:
        raise ConfigurationError(
            f"{folder}: its conda file asks for Python {match[1]}.{match[2]}, and the server needs "
            "3.11 or later; environment.python in a model-settings.json asks for an older one for "
            "that model"
        )
    return f"{match[1]}.{match[2]}"
