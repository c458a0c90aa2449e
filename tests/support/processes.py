"""Processes that work on a store at once, and that are killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

START = """
import sys
from pathlib import Path
from headrace import bundles, models
print("ready", flush=True)
sys.stdin.readline()
"""


def started(program: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A process that imports everything and waits for a line; then it runs the program."""
    return subprocess.Popen(
        [sys.executable, "-c", START + program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )


def go(*processes: subprocess.Popen[bytes]) -> None:
    """Let all of them go once the last one is ready."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()


def outputs(*processes: subprocess.Popen[bytes]) -> list[str]:
    """What each of them prints until it ends, which it must do well."""
    found = [process.communicate(timeout=300)[0].decode().strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return found


def killed(program: str, times: int, span: float, *arguments: object) -> Iterator[None]:
    """Start an endless program again and again; yields whenever it has just been killed.

    The moments of the kills are spread over the first `span` seconds of its work.
    """
    dice = random.Random(program)
    for _ in range(times):
        process = started(program, *arguments)
        go(process)
        # The test is about this moment, so there is nothing else to wait for.
        time.sleep(dice.uniform(0, span))
        assert process.poll() is None, "it has to be at work"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        yield
