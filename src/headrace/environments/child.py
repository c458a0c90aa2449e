"""Runs a program to its end, with a deadline and bounded output, and kills its whole group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headrace.errors import OUTSIDE
from headrace.keeper import keeper

# How much is kept of the end of the output, and of each line, in bytes.
KEPT = 8 * 1024
CHUNK = 64 * 1024


class Overdue(Exception):
    """The program was killed because its time was up."""


@dataclass(frozen=True)
class Program:
    """What to run and how. `locks` are descriptors it inherits, so that it holds their locks."""

    arguments: Sequence[str]
    variables: Mapping[str, str]
    folder: Path
    locks: Sequence[int] = ()
    stdin: bytes = b""


@dataclass
class Outcome:
    """The exit status, and the last 8 KiB of standard output and standard error together."""

    code: int
    output: str = field(repr=False)

    @property
    def was_killed(self) -> bool:
        """Whether something outside ended it."""
        return -self.code in OUTSIDE


async def run(
    program: Program, timeout: float, on_line: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Run the program; `on_line` gets each line of its output as it comes.

    However this ends, nothing in the program's process group is left running, not even when this
    process is killed.

    Raises:
        Overdue: it did not end within `timeout` seconds.
        OSError: it could not be started.
    """
    process = await asyncio.create_subprocess_exec(
        *program.arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(program.variables),
        cwd=program.folder,
        pass_fds=tuple(program.locks),
        start_new_session=True,
    )
    keeper.add(process.pid)
    try:
        async with asyncio.timeout(timeout):
            return await _finish(process, program.stdin, on_line)
    except TimeoutError:
        raise Overdue from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        keeper.remove(process.pid)
        await process.wait()


async def _finish(
    process: asyncio.subprocess.Process, stdin: bytes, on_line: Callable[[str], None]
) -> Outcome:
    assert process.stdin is not None, "it is a pipe"
    assert process.stdout is not None, "it is a pipe"
    # uvloop raises RuntimeError when the program has already ended.
    with contextlib.suppress(ConnectionError, RuntimeError):
        process.stdin.write(stdin)
        await process.stdin.drain()
    process.stdin.close()
    kept = line = b""
    while chunk := await process.stdout.read(CHUNK):
        kept = (kept + chunk)[-KEPT:]
        *whole, line = (line + chunk).split(b"\n")
        line = line[-KEPT:]
        for each in whole:
            on_line(each[:KEPT].decode(errors="replace"))
    return Outcome(await process.wait(), kept.decode(errors="replace"))
