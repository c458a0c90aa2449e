"""An interpreter for a user who may not read the home of the one that runs the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import headrace

# Nobody has this number.
UID = 54321


@dataclass(frozen=True)
class Place:
    """A folder that everybody may read, and a Python there with Headrace and its packages."""

    folder: Path
    python: Path
    env: dict[str, str]

    def refusal(self, *arguments: object) -> str:
        """Why Python does not run with these arguments as the other user; empty if it does."""
        try:
            done = subprocess.run(
                [self.python, *map(str, arguments)],
                env={**os.environ, **self.env},
                capture_output=True,
                text=True,
                cwd="/",
                user=UID,
                group=UID,
                extra_groups=[],
            )
        except PermissionError as error:
            return str(error)
        return done.stderr.strip() if done.returncode else ""


@contextmanager
def readable_place() -> Iterator[Place]:
    """A place for the other user; skips where this user may not run programs as another."""
    if os.geteuid() != 0:
        pytest.skip("only root starts workers of another user")
    with TemporaryDirectory(prefix="headrace-test-readable-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        base = Path(sys.base_prefix)
        python = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
        env = {}
        if not _is_readable(python):
            python = _linked_python(base, python, folder / "python")
            env["LD_LIBRARY_PATH"] = str(python.parents[1] / "lib")
        packages = (Path(headrace.__file__).parents[1], Path(sysconfig.get_path("purelib")))
        env["PYTHONPATH"] = os.pathsep.join(
            str(_readable(path, folder / f"packages-{number}"))
            for number, path in enumerate(packages)
        )
        place = Place(folder, python, env)
        if why := place.refusal("-c", "import numpy, headrace.settings"):
            pytest.skip(f"user {UID} cannot run a Python here: {why}")
        yield place


def _is_readable(path: Path) -> bool:
    """Whether everybody gets at a path."""
    return path.stat().st_mode & 0o5 == 0o5 and all(
        folder.stat().st_mode & 0o1 for folder in path.parents
    )


def _readable(folder: Path, at: Path) -> Path:
    return folder if _is_readable(folder) else _linked(folder, at)


def _linked(folder: Path, at: Path) -> Path:
    """The same files at another path: what keeps others from them is a folder above them."""
    shutil.copytree(
        folder, at, copy_function=_link, ignore=shutil.ignore_patterns("site-packages", "test")
    )
    return at


def _linked_python(base: Path, python: Path, at: Path) -> Path:
    library = Path(sysconfig.get_path("stdlib"))
    _linked(library, at / library.relative_to(base))
    for shared in (base / "lib").glob("libpython*"):
        _link(str(shared), str(at / "lib" / shared.name))
    (at / "bin").mkdir()
    return Path(_link(str(python), str(at / "bin" / python.name)))


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        # It is on another file system.
        shutil.copy2(source, target)
    return target
