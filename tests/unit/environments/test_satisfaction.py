"""Whether the server's own environment is enough."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from headrace.environments import lines
from headrace.environments.need import RUNNING, Need
from headrace.environments.satisfaction import unmet

NUMPY = metadata.version("numpy")


def need(*requirements: str, python: str | None = None, native: bool = False) -> Need:
    return Need(python, tuple(lines.parse(requirements, Path("/"))), native=native)


@pytest.mark.parametrize(
    "requirement",
    [
        f"numpy=={NUMPY}",
        "NumPy>=1",
        "numpy",
        "nosuch; python_version < '3'",
        "numpy[anything]",
        "--index-url https://example.com/simple",
    ],
)
def test_what_is_installed_is_met(requirement: str) -> None:
    assert unmet(need(requirement)) == []


@pytest.mark.parametrize(
    ("requirement", "lacking"),
    [
        ("numpy<1", "numpy<1"),
        ("nosuch>=1", "nosuch>=1"),
        ("numpy @ https://user:secret@host/numpy.whl", "numpy"),
        ("git+https://secret@host/x.git", "a file or URL"),
    ],
)
def test_what_is_not_installed_or_names_no_version_is_not_met(
    requirement: str, lacking: str
) -> None:
    assert unmet(need(requirement)) == [lacking]


def test_another_minor_version_of_python_is_not_met() -> None:
    assert unmet(need(python="3.99")) == ["Python 3.99"]
    assert unmet(need(python=RUNNING)) == []


def test_mlflow_is_not_needed_by_models_that_load_without_it() -> None:
    assert unmet(need("mlflow==0.0.1", native=True)) == []
    assert unmet(need("mlflow==0.0.1")) == ["mlflow==0.0.1"]


def test_a_stand_in_of_the_right_version_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"xgboost-cpu": "3.1.0"}

    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)

    assert unmet(need("xgboost==3.1.0")) == []
    assert unmet(need("xgboost==3.0.0")) == ["xgboost==3.0.0"]


def test_the_local_part_of_a_version_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "2.13.0+cpu")

    assert unmet(need("torch==2.13.0")) == []
