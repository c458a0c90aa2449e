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
LOCKS = ROOT / "locks"
ENVIRONMENTS = ROOT / ".venv-clients"
SCRIPTS = ROOT / "tests/e2e/client_scripts"

BUILD_TIMEOUT = 400
# pytest's own limit for tests that may be the first to need an environment.
TEST_TIMEOUT = BUILD_TIMEOUT + 100


def environment(name: str, ours: bool = False) -> Path:
    """The Python of an environment that holds what a lock lists, built if it does not exist yet.

    The lock is one of `locks/clients`, or of `locks` if `ours` adds our own package.
    Fails the test, with the installer's output, when it cannot be built.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = ENVIRONMENTS / f"{name}-{version}"
    stamp = folder / ".lock"
    lock_file = LOCKS / ("" if ours else "clients") / f"{name}.txt"
    wanted = lock_file.read_text()
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / f"{folder.name}.lock").open("w") as lock:
        # Another process of the same test run may be building it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            _build(folder, lock_file, ours)
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


def pinned(name: str) -> list[str]:
    """The requirements of a lock of `locks/clients`, each with its marker and without hashes."""
    lines = (LOCKS / "clients" / f"{name}.txt").read_text().splitlines()
    return [line.rstrip(" \\") for line in lines if line[:1].isalnum()]


def _build(folder: Path, lock: Path, ours: bool) -> None:
    for command in _commands(folder, lock, ours):
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
            pytest.fail(f"{lock} was not installed within {BUILD_TIMEOUT} s")
        if done.returncode:
            pytest.fail(f"{lock} cannot be installed:\n{done.stdout[-2000:]}")


def _commands(folder: Path, lock: Path, ours: bool) -> list[list[str]]:
    python = str(folder / "bin/python")
    create = [sys.executable, "-m", "venv", str(folder)]
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    if shutil.which("uv"):
        create = ["uv", "venv", "--quiet", "--python", sys.executable, str(folder)]
        install = ["uv", "pip", "install", "--quiet", "--python", python, "--no-deps"]
    commands = [create, [*install, "--require-hashes", "-r", str(lock)]]
    if ours:
        commands.append([*install, "--no-build-isolation", "-e", str(ROOT)])
    return commands
