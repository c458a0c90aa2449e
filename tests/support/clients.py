"""Environments for client libraries that cannot share ours, and scripts run inside them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# Built once per machine and kept between runs; git ignores it.
ENVIRONMENTS = ROOT / ".venv-clients"
SCRIPTS = ROOT / "tests/e2e/client_scripts"

TRITON = "tritonclient[http]==2.73.*"

BUILD_TIMEOUT = 400
# pytest's own limit for tests that may be the first to need an environment.
TEST_TIMEOUT = BUILD_TIMEOUT + 100


def environment(name: str, requirement: str) -> Path:
    """The Python of an environment that holds `requirement`, built when it is not there yet.

    Fails the test, with the installer's output, when it cannot be built.
    """
    folder = ENVIRONMENTS / name
    stamp = folder / ".requirement"
    editable = requirement.startswith("-e")
    declared = (Path(requirement[2:]) / "pyproject.toml").read_text() if editable else ""
    wanted = (
        f"{requirement}{declared} on Python {sys.version_info.major}.{sys.version_info.minor}\n"
    )
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / f"{name}.lock").open("w") as lock:
        # Another process of the same test run may be building it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            _build(folder, requirement)
            stamp.write_text(wanted)
    return folder / "bin/python"


def run_script(python: Path, script: str, *arguments: str, timeout: float = 60, **env: str) -> Any:
    """The last line that a script of `client_scripts` prints, as JSON; it must exit with 0."""
    done = subprocess.run(
        [python, SCRIPTS / script, *arguments],
        capture_output=True,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{script} exited with {done.returncode}:\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


def _build(folder: Path, requirement: str) -> None:
    for command in _commands(folder, requirement):
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=BUILD_TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            pytest.fail(f"{requirement} was not installed within {BUILD_TIMEOUT} s")
        if done.returncode:
            pytest.fail(f"{requirement} cannot be installed:\n{done.stdout[-2000:]}")


def _commands(folder: Path, requirement: str) -> list[list[str]]:
    python = str(folder / "bin/python")
    if shutil.which("uv"):
        return [
            ["uv", "venv", "--quiet", "--python", sys.executable, str(folder)],
            ["uv", "pip", "install", "--quiet", "--python", python, requirement],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", requirement],
    ]
