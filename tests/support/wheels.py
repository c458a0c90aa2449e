"""Wheels made on the spot, so that environments are built without an index."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Needed by other platforms alone: empty wheels, in versions that what names them allows.
ELSEWHERE = (
    *("colorama==2099.1", "exceptiongroup==2099.1", "pywin32==311", "tzdata==2099.1"),
    *("waitress==3.0.2", "xgboost==2099.1"),
)
# A worker needs an environment where numpy can be imported; this one can be, and no more.
FAKE_NUMPY = "__version__ = '9.9'\n"


def make_wheel(
    folder: Path, name: str, version: str, source: str = "", requires: Sequence[str] = ()
) -> Path:
    """A wheel with one package of that name and source."""
    info = f"{name}-{version}.dist-info"
    described = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    described += [f"Requires-Dist: {each}" for each in requires]
    wheel = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}/__init__.py", source)
        file.writestr(f"{info}/METADATA", "\n".join(described) + "\n")
        file.writestr(f"{info}/WHEEL", wheel)
        file.writestr(f"{info}/RECORD", f"{name}/__init__.py,,\n{info}/RECORD,,\n")
    return path


def repack(folder: Path, name: str) -> Path:
    """The wheel that an installed package came from."""
    found = metadata.distribution(name)
    tags = [
        line.removeprefix("Tag: ").split("-")
        for line in (found.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag: ")
    ]
    # One wheel may be for several Pythons or platforms.
    tag = "-".join(".".join(dict.fromkeys(parts)) for parts in zip(*tags, strict=True))
    path = folder / f"{name}-{found.version}-{tag}.whl"
    # Those are created again.
    scripts = {each.name for each in found.entry_points if each.group == "console_scripts"}
    with zipfile.ZipFile(path, "w") as file:
        for each in found.files or ():
            source = Path(str(found.locate_file(each)))
            if not source.is_file() or source.suffix == ".pyc":
                continue
            if ".." not in each.parts:
                file.write(source, str(each))
            elif each.parts[-2] == "bin" and each.name not in scripts:
                file.write(source, f"{name}-{found.version}.data/scripts/{each.name}")
    return path


def closure(*requirements: str) -> Iterator[tuple[str, str]]:
    """Name and version of each installed distribution that the requirements need, once."""
    pending = [Requirement(text) for text in requirements]
    seen: set[tuple[str, str]] = set()
    while pending:
        wanted = pending.pop()
        try:
            found = metadata.distribution(wanted.name)
        except metadata.PackageNotFoundError:
            continue
        name = canonicalize_name(wanted.name)
        for extra in wanted.extras or {""}:
            if (name, extra) in seen:
                continue
            if not any(known == name for known, _ in seen):
                yield name, found.version
            seen.add((name, extra))
            needs = [Requirement(text) for text in found.requires or ()]
            pending += [
                each for each in needs if not each.marker or each.marker.evaluate({"extra": extra})
            ]


def wheelhouse(folder: Path, *requirements: str) -> Path:
    """A folder with the wheels of all that the requirements need; those that are there stay.

    Names that other platforms need get an empty wheel, so that a lock for all can be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = {tuple(file.name.split("-")[:2]) for file in folder.glob("*.whl")}
    for name, version in closure(*requirements):
        # That of Headrace is made for each image and each bundle.
        if (name.replace("-", "_"), version) not in there and name != "headrace":
            made = repack(folder, name)
            tail = made.name.removeprefix(f"{name}-")
            made.rename(folder / f"{name.replace('-', '_')}-{tail}")
    for name, _, version in (each.partition("==") for each in ELSEWHERE):
        if not list(folder.glob(f"{name}-*.whl")):
            make_wheel(folder, name, version)
    return folder


def offline(wheels: Path) -> dict[str, str]:
    """Variables that make uv take packages from a folder and from nowhere else."""
    return {
        "UV_FIND_LINKS": str(wheels),
        "UV_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def uv_that_waits(folder: Path) -> Path:
    """A program that runs uv once `folder/go` exists; it lists its calls in `calls`."""
    import uv

    program = folder / "uv"
    program.write_text(
        f"#!/bin/sh\necho $1 >> {folder}/calls\n"
        # Not forever, in case the test fails.
        f"for turn in $(seq 1200); do [ -e {folder}/go ] && break; sleep 0.05; done\n"
        f'exec {uv.find_uv_bin()} "$@"\n'
    )
    os.chmod(program, 0o755)
    return program
