"""Folders mounted where a platform mounts them, read-only and for one process alone."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

# Whoever may make namespaces may mount in them; the folders of this machine stay as they are.
UNSHARED = ["unshare", "--user", "--map-root-user", "--mount"]


def python_with(tmp_path: Path, mounts: dict[str, Path]) -> Path:
    """A Python that sees each folder at the path that is its key; skips where that is impossible.

    The first folder of each path, such as `/mnt`, keeps what it has.
    """
    lines = ["#!/bin/sh"]
    for top in sorted({Path(target).parts[1] for target in mounts}):
        kept = tmp_path / "kept" / top
        kept.mkdir(parents=True)
        lines += [
            f"mount --rbind /{top} {shlex.quote(str(kept))}",
            f"mount -t tmpfs none /{top}",
            f"for each in {shlex.quote(str(kept))}/*; do",
            f'  if [ -d "$each" ]; then mkdir "/{top}/${{each##*/}}"',
            f'  mount --rbind "$each" "/{top}/${{each##*/}}"; fi',
            "done",
        ]
    for target, folder in mounts.items():
        lines += [
            f"mkdir -p {target}",
            f"mount --bind {shlex.quote(str(folder))} {target}",
            f"mount -o remount,bind,ro {target}",
        ]
    script, python = tmp_path / "mounts.sh", tmp_path / "python"
    script.write_text("\n".join([*lines, f'exec {shlex.quote(sys.executable)} "$@"']) + "\n")
    command = shlex.join([*UNSHARED, "sh", "-e", str(script)])
    python.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    python.chmod(0o755)
    if subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip("this user may not mount folders for a process")
    return python
