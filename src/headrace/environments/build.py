"""One environment built by uv, in place."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import uv

from headrace.environments import child, pip_settings, probe
from headrace.environments.need import RUNNING, Need
from headrace.environments.shelf import Place, Record
from headrace.errors import LoadFailed, LoadKilled, MissingDependency

# The resolver's message explains itself at the beginning and repeats itself at the end.
LONGEST_MESSAGE = 800
MOST_REQUIREMENTS = 20
CLEAN_TIMEOUT = 300.0

_PROGRESS = re.compile(r"(Resolved|Prepared|Installed|Downloading|Downloaded|Building|Built) .*")
_NOISE = re.compile(r"(Using |Creating |Activate |warning: |(Resolved|Prepared|Installed) \d)")
# A path on the server's machine, up to its last part; URLs of an index are not paths.
_PATH = re.compile(r"(?:file://|(?<![\w:/.]))(?:/[^\s/'\"`,;()]+)*/(?=[^\s/'\"`,;()])")
_SECRET = re.compile(r"(?<=://)[^\s/@'\"`]+@")
# These would make uv install somewhere else, or choose the interpreter.
_REDIRECTING = ("UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_TARGET", "UV_PREFIX", "CONDA_PREFIX")


class Step(NamedTuple):
    """What to report when a step fails, and which settings help."""

    failure: str
    knob: str


PYTHON_KNOB = (
    "environment.python in its model-settings.json chooses another version, and "
    "--environments-dir another folder"
)
KNOB = (
    "environment.requirements in its model-settings.json replaces them, PIP_INDEX_URL says where "
    "packages come from, and --env-manager local uses the server's packages"
)


@dataclass(frozen=True)
class _Uv:
    """uv, with everything that one build passes to it."""

    program: str
    variables: Mapping[str, str]
    folder: Path
    lock: int
    timeout: float
    deadline: float
    progress: Callable[[str], None]

    async def run(self, step: Step, arguments: Sequence[str], stdin: str = "") -> None:
        """Run one of its commands to its end.

        Raises:
            LoadFailed: it failed, or the build's time is up.
        """
        program = child.Program(
            [self.program, *arguments], self.variables, self.folder, [self.lock], stdin.encode()
        )
        try:
            outcome = await child.run(program, self.deadline - time.monotonic(), self._on_line)
        except child.Overdue:
            raise LoadFailed(
                f"{step.failure} within {self.timeout:g} s; --environment-timeout allows more"
            ) from None
        except OSError as error:
            raise LoadFailed(
                f"uv, which builds environments, does not run: {error.strerror}"
            ) from None
        if outcome.code != 0:
            said = explanation(outcome.output)
            if outcome.code < 0:
                said = f"uv was ended by {signal.Signals(-outcome.code).name}"
            failure = LoadKilled if outcome.was_killed else LoadFailed
            raise failure(f"{step.failure}: {said}; {step.knob}")

    def _on_line(self, line: str) -> None:
        if _PROGRESS.fullmatch(line.strip()):
            self.progress(scrubbed(line.strip()))


async def build(
    need: Need,
    place: Place,
    cache: Path,
    lock: int,
    timeout: float,
    progress: Callable[[str], None],
) -> Record:
    """Make the environment, without its record. uv holds the descriptor `lock` too.

    Raises:
        LoadFailed: with what uv said, or because `timeout` seconds were not enough.
    """
    started = time.time()
    deadline = time.monotonic() + timeout
    variables = await _variables(cache)
    installer = _Uv(uv_program(), variables, place.folder.parent, lock, timeout, deadline, progress)
    wanted = need.python or RUNNING
    venv = ["venv", "--no-project", "--python", _interpreter(wanted), str(place.folder)]
    install = ["pip", "install", "--python", str(place.python), "--requirement", "-"]
    install += pip_settings.as_uv_flags(variables)
    requirements = "\n".join(need.installed()) + "\n"
    await installer.run(Step(f"no environment of Python {wanted} could be made", PYTHON_KNOB), venv)
    await installer.run(
        Step("its requirements could not be installed", KNOB), install, requirements
    )
    progress("checking its environment")
    version = await probe.version_of(place.python, "its environment")
    named = [line.requirement for line in need.lines if line.requirement is not None]
    shown = [f"{each.name}{each.specifier}" for each in named[:MOST_REQUIREMENTS]]
    return Record(version, shown, started, round(time.time() - started, 1))


def clean_cache(cache: Path) -> None:
    """Remove what uv downloaded; it waits until no build needs it any more.

    Raises:
        LoadFailed: it could not be removed.
    """
    command = [uv_program(), "cache", "clean", "--cache-dir", str(cache)]
    try:
        subprocess.run(command, capture_output=True, timeout=CLEAN_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError):
        raise LoadFailed(
            "the cache of packages could not be removed; is a build under way?"
        ) from None


def uv_program() -> str:
    """The path of uv.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        return uv.find_uv_bin()
    except FileNotFoundError:
        raise MissingDependency(
            "uv, which builds environments, is missing: pip install uv"
        ) from None


async def _variables(cache: Path) -> dict[str, str]:
    kept = {name: value for name, value in probe.variables().items() if name not in _REDIRECTING}
    variables = {"UV_CACHE_DIR": str(cache), **kept, "NO_COLOR": "1", "UV_NO_PROGRESS": "1"}
    return {**variables, **await pip_settings.as_uv_variables(variables)}


def _interpreter(wanted: str) -> str:
    """What uv makes the environment from: the server's Python, pyenv's, or one it finds."""
    if wanted == RUNNING:
        return sys.executable
    # `Path.home` fails for users that the system does not know.
    root = Path(os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv"))
    # uv only knows pyenv's shims, which work only for activated versions.
    found = [
        path for path in root.glob(f"versions/{wanted}.*/bin/python") if os.access(path, os.X_OK)
    ]
    return str(max(found, key=_patch)) if found else wanted


def _patch(python: Path) -> int:
    patch = python.parents[1].name.rpartition(".")[2]
    return int(patch) if patch.isdecimal() else -1


def explanation(output: str) -> str:
    """What uv said went wrong, in one line that may be shown to clients."""
    lines = [line.strip(" ╰─▶│├×") for line in output.splitlines()]
    said = " ".join(line for line in lines if line and not _NOISE.match(line))
    said = said.removeprefix("error: ").replace(" cause: ", ": ").rstrip(".")
    said = scrubbed(said) or "uv did not say why"
    return said if len(said) <= LONGEST_MESSAGE else said[: LONGEST_MESSAGE - 3] + "..."


def scrubbed(text: str) -> str:
    """The text without folders of this machine, credentials in URLs and control characters."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return _PATH.sub("", _SECRET.sub("", plain))
