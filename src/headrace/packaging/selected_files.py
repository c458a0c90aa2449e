"""Which files of a folder a bundle gets: patterns as in a `.gitignore`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.archives.walking import resolved, walk
from headrace.environments.lines import read_text
from headrace.errors import ConfigurationError, InvalidModel, MissingDependency, shorten
from headrace.settings import home_folder

IGNORE_FILES = (".headraceignore", ".bentoignore", ".vtsignore")
NEVER = (".git", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".headrace")
INSTALL = "pip install 'headrace[bundles]'"


def select(folder: Path, include: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """The paths, relative to the folder and sorted, of the files that the patterns take.

    An ignore file in a folder excludes what it lists from that folder down.

    Raises:
        ConfigurationError: a file that is taken is a link out of the folder, or is not a file.
        MissingDependency: pathspec is not installed.
    """
    try:
        return _selected(folder.resolve(), _spec(include), _spec(exclude))
    except OSError as error:
        raise ConfigurationError(
            f"{folder}: '{shorten(error.filename)}' cannot be read: {error.strerror}"
        ) from None


def _selected(root: Path, included: Any, excluded: Any) -> list[str]:
    # The store may be in the folder, with the bundles that were built of it before.
    home = home_folder().resolve()
    found: list[str] = []
    ignored: dict[str, Any] = {}
    for parent, below, names in walk(root):
        path = Path(parent).relative_to(root).as_posix()
        here = "" if path == "." else f"{path}/"
        rules = [name for name in IGNORE_FILES if name in names]
        if rules:
            lines = [line for name in rules for line in ignore_lines(Path(parent, name))]
            ignored[here] = _spec(lines)
        below[:] = sorted(
            name for name in below if name not in NEVER and Path(parent, name) != home
        )
        for name in sorted((*names, *(each for each in below if Path(parent, each).is_symlink()))):
            file = here + name
            if not included.match_file(file) or excluded.match_file(file) or name in IGNORE_FILES:
                continue
            if any(
                file.startswith(prefix) and spec.match_file(file[len(prefix) :])
                for prefix, spec in ignored.items()
            ):
                continue
            _check(root, file)
            found.append(file)
    return sorted(found)


def ignore_lines(file: Path) -> list[str]:
    """The lines of an ignore file.

    Raises:
        ConfigurationError: it is not a small text file.
    """
    try:
        return read_text(file).splitlines()
    except InvalidModel as error:
        raise ConfigurationError(f"{file.parent}: {error.message}") from None


def copy(folder: Path, paths: Sequence[str], target: Path) -> None:
    """Copy files into another folder; links inside the folder become files."""
    for path in paths:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / path, target / path)
        executable = os.access(folder / path, os.X_OK)
        (target / path).chmod(0o755 if executable else 0o644)


def _check(root: Path, path: str) -> None:
    file = root / path
    if not path.isprintable():
        raise ConfigurationError(
            f"{root}: the name of '{shorten(path)}' has a line break or another control character"
        )
    if file.is_symlink() and not resolved(file).is_relative_to(root):
        raise ConfigurationError(
            f"{root}: '{shorten(path)}' is a link that leads out of the folder; exclude it, or "
            "replace it by a copy of the file"
        )
    if not file.is_file():
        kind = "a link to a folder" if file.is_dir() else "neither a file nor a folder"
        raise ConfigurationError(f"{root}: '{shorten(path)}' is {kind}; exclude it")


def _spec(lines: Sequence[str]) -> Any:
    try:
        from pathspec import GitIgnoreSpec
    except ModuleNotFoundError:
        raise MissingDependency(f"bundles need the module 'pathspec': {INSTALL}") from None
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise ConfigurationError(f"a pattern is wrong: {shorten(error, 200)}") from None
