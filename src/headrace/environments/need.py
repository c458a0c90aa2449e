"""What a model needs installed, by its settings or by the files MLflow saved with it."""

from __future__ import annotations

import hashlib
import re
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from headrace.environments import lines, mlflow_files
from headrace.environments.lines import Line
from headrace.environments.mlflow_files import Saved
from headrace.environments.probe import OLDEST
from headrace.errors import InvalidModel, shorten
from headrace.runtimes import catalog
from headrace.runtimes.catalog import MLFLOW
from headrace.settings import ModelSettings

# Part of every key: raise it when the same need must be built differently.
SCHEMA = 1
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"

# A folder with an `MLmodel` file but no settings file gets the class itself.
MLFLOW_RUNTIMES = (*MLFLOW.names, MLFLOW.class_path)

_VERSION = re.compile(r"={0,2}\s*(\d+)\.(\d+)(\.[\w*]+)*$")


@dataclass(frozen=True)
class Need:
    """What must be installed for a model to load.

    `python` is a minor version such as "3.11", or None if the server's will do. Models that are
    `mlflow` need what reads their `MLmodel`; `native` ones load without MLflow itself.
    `conda_only` are packages that are listed for conda alone, and are not installed.
    """

    python: str | None = None
    lines: tuple[Line, ...] = ()
    mlflow: bool = False
    native: bool = False
    conda_only: tuple[str, ...] = ()

    @property
    def is_stated(self) -> bool:
        """Whether the model asks for anything at all."""
        return self.python is not None or any(not line.is_option for line in self.lines)

    def installed(self) -> list[str]:
        """The lines of its environment: what the model asks for, and what a worker needs."""
        return [*(line.install for line in self.lines), *self._additions()]

    def key(self) -> str:
        """16 hexadecimal digits, the same for all models with the same needs."""
        written = sorted((line.text, line.content) for line in self.lines)
        python, platform = self.python or RUNNING, sysconfig.get_platform()
        identity = repr((SCHEMA, python, platform, written, self._additions()))
        return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def _additions(self) -> list[str]:
        found = [line.requirement for line in self.lines if line.requirement is not None]
        # A requirement with a condition may be left out.
        named = {canonicalize_name(each.name) for each in found if each.marker is None}
        wanted = ["numpy", *(MLFLOW.requirements if self.mlflow else ())]
        return [name for name in wanted if name not in named]


def of_model(settings: ModelSettings) -> Need:
    """What a model needs; its `uri` is a local path.

    Raises:
        InvalidModel: a file cannot be read or understood, or the Python asked for is too old.
    """
    saved = mlflow_files.read(settings.uri)
    is_mlflow = saved is not None and settings.implementation in MLFLOW_RUNTIMES
    saved = saved or Saved(Path())
    replaced = settings.environment.get("requirements") is not None
    return Need(
        _python(settings.environment, saved),
        tuple(_lines(settings, saved)),
        is_mlflow,
        is_mlflow and _is_native(saved),
        () if replaced else saved.conda_only,
    )


def _is_native(saved: Saved) -> bool:
    return catalog.mlflow_reader(saved.loader) is not None and not saved.is_configured


def _lines(settings: ModelSettings, saved: Saved) -> list[Line]:
    base = Path(settings.folder) if settings.folder else Path()
    requirements = settings.environment.get("requirements")
    if requirements is None:
        found = lines.parse(saved.requirements, saved.folder)
    elif isinstance(requirements, str):
        found = lines.read(Path(requirements))
    else:
        found = lines.parse(requirements, base)
    return found + lines.parse(settings.environment.get("packages") or [], base)


def _python(environment: Mapping[str, Any], saved: Saved) -> str | None:
    wanted = str(environment.get("python") or saved.python).strip()
    if not wanted:
        return None
    match = _VERSION.match(wanted)
    if match is None:
        _check_range(wanted)
        return None
    if (int(match[1]), int(match[2])) < OLDEST:
        raise InvalidModel(
            f"it asks for Python {match[1]}.{match[2]}, and workers need "
            f"{'.'.join(map(str, OLDEST))} or later; environment.python chooses another"
        )
    return f"{match[1]}.{match[2]}"


def _check_range(wanted: str) -> None:
    """Accept a range of Python versions that includes the server's."""
    try:
        if "{}.{}.{}".format(*sys.version_info) in SpecifierSet(wanted):
            return
    except InvalidSpecifier:
        pass
    raise InvalidModel(
        f"it asks for Python '{shorten(wanted)}', which is neither one minor version, such as "
        f"'3.11', nor a range that includes the server's {RUNNING}; environment.python chooses one"
    )
