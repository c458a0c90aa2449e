"""Environments for the servers of others, made once in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks import servers

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
ENVIRONMENTS = CACHE / "headrace-benchmarks"
BUILD_TIMEOUT = 600
# What the model needs, in the versions of the environment that saved it. scikit-learn imports
# pandas wherever it is installed, as in ours; so all have it, and starts can be compared.
MODEL = ("scikit-learn", "numpy", "joblib", "pandas")


def model_requirements() -> list[str]:
    """Our own versions of what loads and calls the model."""
    return pinned(*MODEL)


def pinned(*names: str) -> list[str]:
    """Packages in our own versions."""
    return [f"{name}=={version(name)}" for name in names]


def prepare(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of the environment `name`, made again if it has other requirements.

    Raises:
        NotStarted: uv is missing, or the environment could not be made.
    """
    folder = ENVIRONMENTS / name
    python, complete = folder / "bin" / "python", folder / "complete"
    wanted = "\n".join([sys.version.split()[0], *requirements])
    if complete.exists() and complete.read_text() == wanted:
        return python
    own = Path(sys.executable).with_name("uv")
    uv = str(own) if own.exists() else shutil.which("uv")
    if uv is None:
        raise servers.NotStarted("uv, which makes the environments of others, is not installed")
    print(f"making the environment {folder}", flush=True)
    run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    # Compiled, as pip and our own environment do; where Python may not write bytecode, each start
    # would compile everything.
    install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)]
    run([*install, *requirements])
    complete.write_text(wanted)
    return python


def run(
    command: Sequence[str], folder: Path | None = None, variables: Mapping[str, str] | None = None
) -> None:
    """Run what prepares a server.

    Raises:
        NotStarted: it failed, or took too long.
    """
    env = {**os.environ, **(variables or {})}
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, timeout=BUILD_TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        raise servers.NotStarted(f"{error}") from None
    if done.returncode:
        raise servers.NotStarted(f"{' '.join(command)} failed:\n{done.stderr[-1500:]}")
