"""Wheels made on the spot, so that environments are built without an index."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

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
    (tag,) = [
        line.removeprefix("Tag: ")
        for line in (found.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag: ")
    ][:1]
    path = folder / f"{name}-{found.version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as file:
        for each in found.files or ():
            source = Path(str(found.locate_file(each)))
            # Scripts are outside and are created again.
            if ".." not in each.parts and source.is_file() and source.suffix != ".pyc":
                file.write(source, str(each))
    return path


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
