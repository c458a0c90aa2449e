"""Whether the server's own environment has what a model asks for."""

from __future__ import annotations

from importlib import metadata

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from headrace.environments.lines import Line
from headrace.environments.need import RUNNING, Need

# Distributions that bring the same modules under another name.
STAND_INS = {
    "mlflow": ("mlflow-skinny",),
    "onnxruntime": ("onnxruntime-gpu",),
    "tensorflow": ("tensorflow-cpu",),
    "xgboost": ("xgboost-cpu",),
}


def unmet(need: Need) -> list[str]:
    """What the running interpreter lacks; empty if it can load the model.

    Versions are compared, extras of packages are ignored. A requirement without a version to
    compare (a URL or a path) counts as lacking.
    """
    lacking = []
    if need.python not in (None, RUNNING):
        lacking.append(f"Python {need.python}")
    return lacking + [
        _shown(line) for line in need.lines if not line.is_option and not _is_met(line, need)
    ]


def _is_met(line: Line, need: Need) -> bool:
    requirement = line.requirement
    if requirement is None:
        return False
    if requirement.marker is not None and not _applies(requirement):
        return True
    name = canonicalize_name(requirement.name)
    if name in ("mlflow", "mlflow-skinny") and need.native:
        return True
    if requirement.url:
        return False
    return any(_has(each, requirement) for each in (name, *STAND_INS.get(name, ())))


def _applies(requirement: Requirement) -> bool:
    assert requirement.marker is not None, "the caller checked"
    try:
        return requirement.marker.evaluate()
    except (UndefinedComparison, UndefinedEnvironmentName):
        return True


def _has(name: str, requirement: Requirement) -> bool:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    try:
        return requirement.specifier.contains(version, prereleases=True)
    except (InvalidVersion, TypeError):
        return False


def _shown(line: Line) -> str:
    """The requirement without what may hold a secret: URLs and options."""
    if line.requirement is None:
        return "a file or URL"
    return f"{line.requirement.name}{line.requirement.specifier}"
