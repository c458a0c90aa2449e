"""One worker process: spawn it, watch it, end it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import headrace
from headrace.executors.channel import Channel
from headrace.executors.executor import WorkerLost
from headrace.executors.output import Output
from headrace.executors.runner_answers import AskModel, refuse

# Signals that a process brings upon itself.
FAULTS = {
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSEGV,
    signal.SIGSYS,
    signal.SIGTRAP,
}
START = Path(headrace.__file__).with_name("worker") / "start.py"


@dataclass(frozen=True)
class Environment:
    """The interpreter workers run on and how they log (`text` or `json`).

    `ask` answers what runners in them ask of other models. `threads` are variables that say how
    many threads a worker computes with. Workers `in_background` give way to every other process.
    """

    python: str
    log_level: str = "info"
    log_format: str = "text"
    ask: AskModel = refuse
    threads: Mapping[str, str] = field(default_factory=dict)
    in_background: bool = False

    def variables(self) -> dict[str, str]:
        """The environment variables of a worker."""
        # OpenMP threads that spin while they wait take the processor from the front process.
        variables = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **self.threads}
        if self.python == sys.executable:
            return variables
        # These would bring the server's packages, or the user's, into the model's environment.
        for name in ("PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__"):
            variables.pop(name, None)
        programs = Path(self.python).parent
        variables["PATH"] = os.pathsep.join([str(programs), variables.get("PATH", os.defpath)])
        variables["VIRTUAL_ENV"] = str(programs.parent)
        variables["PYTHONNOUSERSITE"] = "1"
        return variables


class WorkerProcess:
    """A live worker and the channel to it.

    The worker inherits a socket that already listens, so the front connects at once and its
    first frames wait in the socket until the interpreter is up.
    """

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel, output: Output) -> None:
        self._process = process
        self._output = output
        self._pidfd: int | None = None
        self.channel = channel
        self.fate = ""
        self.was_killed = False
        # Why the server ended it, if it did.
        self.ended: WorkerLost | None = None
        self.exited = asyncio.Event()

    @classmethod
    async def spawn(cls, environment: Environment) -> WorkerProcess:
        """Start a worker and connect to it."""
        with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
            path = str(Path(folder, "worker"))
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(path)
                listener.listen()
                process, output = _popen(environment, listener.fileno())
                try:
                    # The path is needed only for this connection and is removed with the folder.
                    worker = cls(process, await Channel.connect(path, environment.ask), output)
                    worker._watch()
                except BaseException:
                    process.kill()
                    process.wait()
                    output.close()
                    raise
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    async def death(self) -> WorkerLost:
        """How it ended while loading a model; waits until it has."""
        await self.exited.wait()
        message = f"the worker process {self.fate} while loading it"
        blameless = self.ended is not None and self.ended.blameless
        return WorkerLost(message, blameless, self.was_killed)

    def kill(self, reason: WorkerLost | None = None) -> None:
        """End the process now; its waiting calls fail with `reason`, which the log shows."""
        self.channel.lose(reason or WorkerLost("the worker process was ended"))
        if self._process.poll() is None:
            self.ended = self.ended or reason
            self._process.kill()

    async def stop(self, grace: float) -> None:
        """Ask the process to exit, and end it if it has not done so after `grace` seconds."""
        if not self.channel.is_lost:
            self.channel.send_stop()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.exited.wait(), grace)
        self.kill()
        await self.exited.wait()

    def _watch(self) -> None:
        """Learn of its death at once: from the kernel, or from the closed socket."""
        loop = asyncio.get_running_loop()
        if hasattr(os, "pidfd_open"):
            self._pidfd = os.pidfd_open(self._process.pid)
            loop.add_reader(self._pidfd, self._on_exit)
        self.channel.closed.add_done_callback(lambda _: self._on_hang_up())

    def _on_hang_up(self) -> None:
        # A worker that closed its socket is lost, whether or not the process lingers.
        self.kill(WorkerLost("the worker process closed its connection"))
        if self._pidfd is None:
            self._process.wait()
            self._on_exit()

    def _on_exit(self) -> None:
        if self.exited.is_set():
            return
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
        # A worker leads a process group: what a model started must not outlive it or keep hold
        # of memory and devices.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        self.fate = _describe(code)
        if self.ended is not None and code == -signal.SIGKILL:
            self.fate = f"was ended by the server ({self.ended.message})"
        self.was_killed = code < 0 and -code not in FAULTS
        self._output.close()
        # How it died is for the log; callers get the same message whichever side notices first.
        self.channel.lose(WorkerLost("the worker process died"))
        self.exited.set()


def _popen(environment: Environment, fd: int) -> tuple[subprocess.Popen[bytes], Output]:
    command = [
        *(environment.python, str(START)),
        *("--fd", str(fd), "--parent", str(os.getpid())),
        # A custom format may look like a flag.
        *("--log-level", environment.log_level, f"--log-format={environment.log_format}"),
        *(["--background"] if environment.in_background else []),
    ]
    reading, writing = Output.pipe()
    try:
        process = subprocess.Popen(
            command,
            env=environment.variables(),
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            # Standard output is reserved for the server's ready line.
            stdout=writing,
            stderr=writing,
            start_new_session=True,
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return process, Output(reading, process.pid)


def _describe(code: int) -> str:
    if code >= 0:
        return f"exited with status {code}"
    if -code == signal.SIGKILL:
        return "was killed by SIGKILL (not by the server, possibly for lack of memory)"
    # Most real-time signals have no name.
    names = {each.value: each.name for each in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"
