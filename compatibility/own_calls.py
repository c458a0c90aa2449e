"""Runs a script of `clients/` in a client's own environment against a server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from compatibility.suite import Case, Setting, SuiteFailed

CLIENTS = Path(__file__).parent / "clients"


def run_calls(setting: Setting, script: str, *arguments: str) -> Iterator[Case]:
    """The cases that a script printed, one a line. Raises `SuiteFailed` if it did not end well."""
    done = subprocess.run(
        [setting.python, CLIENTS / script, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        raise SuiteFailed(f"{script} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    for line in done.stdout.splitlines():
        found = json.loads(line)
        reason = found["reason"].replace("\n", " ")
        yield Case(found["area"], found["id"], "failed" if reason else "passed", reason)
