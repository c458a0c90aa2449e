"""What a bundle has to have installed: a requirements file, and its lock, made by uv."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uv

from headrace import __version__
from headrace.archives.walking import resolved
from headrace.environments import build, lines, mlflow_files, pip_settings
from headrace.environments.lines import Line
from headrace.errors import ConfigurationError, InvalidModel, shorten
from headrace.packaging import headrace_wheel
from headrace.packaging.build_file import BuildFile
from headrace.packaging.folder_requirements import without_mlserver

REQUIREMENTS = "requirements.txt"
LOCK = "requirements.lock.txt"
WHEELS = "wheels"
LOCK_TIMEOUT = 900.0
_ARCHIVE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.!+-]*\.(whl|tar\.gz|zip)")


@dataclass(frozen=True)
class Wanted:
    """Lines for pip that name no local file but wheels in `wheels`, and what was left out.

    `names` are the packages that the lines name, and `python` the minor version asked for.
    """

    lines: tuple[str, ...]
    wheels: tuple[Path, ...]
    names: frozenset[str]
    python: str | None
    conda_only: tuple[str, ...]
    replaced: tuple[str, ...]


def wanted(file: BuildFile) -> Wanted:
    """What the `python` and `conda` parts of a build file ask for.

    Raises:
        ConfigurationError: a file of requirements is wrong, or names what a bundle cannot have.
    """
    try:
        found, python, conda_only = _read(file)
    except InvalidModel as error:
        raise ConfigurationError(f"{file.folder}: {error.message}") from None
    kept, replaced, names = without_mlserver(found)
    wheels = list(file.python.wheels)
    texts = [f"./{WHEELS}/{wheel.name}" for wheel in wheels]
    for line in kept:
        local = _local_archive(line, file)
        if local is not None:
            wheels.append(local)
        texts.append(line.install if local is None else f"./{WHEELS}/{local.name}")
    _check_wheels(wheels, file)
    python = file.docker.python_version or python
    return Wanted(
        (*file.python.options, *texts), tuple(wheels), names, python, tuple(conda_only), replaced
    )


def write(
    folder: Path, asked: Wanted, extras: Iterable[str], locked: bool, wheel: Path | None
) -> None:
    """Write the requirements, the wheels that they name, and the lock, to a folder.

    Raises:
        ConfigurationError: the requirements cannot be resolved, with uv's reason.
    """
    (folder / WHEELS).mkdir(parents=True)
    headrace_wheel.provide(folder / WHEELS, wheel)
    for each in asked.wheels:
        shutil.copyfile(each, folder / WHEELS / each.name)
    named = ",".join(sorted(set(extras)))
    own = f"headrace[{named}]=={__version__}" if named else f"headrace=={__version__}"
    text = "\n".join([f"--find-links ./{WHEELS}", own, *asked.lines]) + "\n"
    (folder / REQUIREMENTS).write_text(text)
    if locked:
        resolved = _compile(folder, asked.python)
        (folder / LOCK).write_text(_portable(asked, resolved, folder))


def _compile(folder: Path, python: str | None) -> str:
    """uv's answer: every package with its version and its hashes."""
    variables = {**os.environ, "NO_COLOR": "1", "UV_NO_PROGRESS": "1"}
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"):
        variables.pop(name, None)
    variables |= asyncio.run(pip_settings.as_uv_variables(variables))
    command = [
        uv.find_uv_bin(), "pip", "compile", "--quiet", "--no-config", "--universal",
        "--generate-hashes", "--no-header", "--no-annotate", "--python-version",
        python or ".".join(platform.python_version_tuple()[:2]),
        *pip_settings.as_uv_flags(variables), REQUIREMENTS,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=LOCK_TIMEOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ConfigurationError(
            f"the requirements were not locked within {LOCK_TIMEOUT:g} s"
        ) from None
    if done.returncode != 0:
        raise ConfigurationError(
            f"the requirements cannot be locked: {build.explanation(done.stderr)}; "
            "python.lock_packages: false in the build file leaves that to the installation"
        )
    return done.stdout


def _portable(asked: Wanted, resolved: str, folder: Path) -> str:
    """The lock with the options of the requirements, and without paths of this machine."""
    options = [line for line in asked.lines if line.startswith("--")]
    body = resolved.replace(f"file://{folder.resolve()}/", "./")
    return "\n".join([f"--find-links ./{WHEELS}", *options, body])


def _read(file: BuildFile) -> tuple[list[Line], str | None, list[str]]:
    python, conda_only, found = "", list[str](), list[Line]()
    if file.python.requirements is not None:
        found += lines.read(file.python.requirements, file.root_of(file.python.requirements))
    found += lines.parse(file.python.packages, file.folder, file.folder)
    if file.conda.environment is not None:
        python, listed, conda_only = mlflow_files.of_conda(file.conda.environment)
        environment = file.conda.environment
        found += lines.parse(listed, environment.parent, file.root_of(environment))
    found += lines.parse(file.conda.pip, file.folder, file.folder)
    conda_only += [each for each in file.conda.dependencies if each != "pip"]
    return found, _minor(python), conda_only


def _minor(python: str) -> str | None:
    parts = python.lstrip("=").split(".")
    if len(parts) < 2 or not parts[0].isdigit() or not parts[1].isdigit():
        return None
    # An older one would be for the model alone, which then gets an environment of its own.
    return f"{parts[0]}.{parts[1]}" if (int(parts[0]), int(parts[1])) >= (3, 11) else None


def _local_archive(line: Line, file: BuildFile) -> Path | None:
    """The archive that a line names; None if it names no file."""
    if not line.content:
        return None
    path = Path(line.install.removeprefix("file://"))
    if not _ARCHIVE.fullmatch(path.name) or not path.is_file():
        raise ConfigurationError(
            f"{file.folder}: its requirements name '{shorten(line.text)}', which a bundle cannot "
            "have; build a wheel of it and list that"
        )
    if not any(resolved(path).is_relative_to(root) for root in file.roots()):
        raise ConfigurationError(
            f"{file.folder}: its requirements name '{shorten(line.text)}', which is outside the "
            "folder"
        )
    return path


def _check_wheels(wheels: Sequence[Path], file: BuildFile) -> None:
    """Refuse names that pip would not read as those of archives, and two of one name."""
    for wheel in wheels:
        if not _ARCHIVE.fullmatch(wheel.name):
            raise ConfigurationError(
                f"{file.folder}: python.wheels: '{shorten(wheel.name)}' is not the name of a wheel"
            )
    names = [wheel.name for wheel in dict.fromkeys(wheels)]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"{file.folder}: there are two wheels named '{name}'")


def installed_file(folder: Path) -> str:
    """The file to install from: the lock if there is one."""
    return LOCK if (folder / LOCK).is_file() else REQUIREMENTS


def packages(text: str) -> list[tuple[str, str, Sequence[str]]]:
    """Name, version and SHA-256 digests of each package in a lock, sorted."""
    found: dict[tuple[str, str], list[str]] = {}
    current: list[str] = []
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split()
        if words and "==" in words[0] and not words[0].startswith("-"):
            name, _, version = words[0].partition("==")
            current = found.setdefault((name.partition("[")[0], version), [])
            current += [
                word.rpartition(":")[2] for word in words if word.startswith("--hash=sha256:")
            ]
    return [
        (name, version, sorted(set(hashes))) for (name, version), hashes in sorted(found.items())
    ]
