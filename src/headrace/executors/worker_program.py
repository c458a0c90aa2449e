"""What is run as a worker process, and how it is started.

Standard library only: the first worker starts before the server has imported itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import headrace
from headrace.executors import confinement, descriptors, processors, thread_counts
from headrace.executors.confinement import Confinement
from headrace.executors.worker_folder import WorkerFolder
from headrace.keeper import keeper
from headrace.observability import logs
from headrace.settings import ModelSettings, ServerSettings

logger = logging.getLogger("headrace.executors")

PIPE_SIZE = 1024 * 1024
START = Path(headrace.__file__).with_name("worker") / "start.py"


@dataclass(frozen=True)
class WorkerProgram:
    """The interpreter workers run on and how they log (`text` or `json`).

    `threads` are variables that say how many threads a worker computes with. Workers
    `in_background` give way to every other process. `confinement` bounds what they may do.
    """

    python: str
    log_level: str = "info"
    log_format: str = "text"
    threads: Mapping[str, str] = field(default_factory=dict)
    in_background: bool = False
    confinement: Confinement = Confinement()

    def variables(self) -> dict[str, str]:
        """The environment variables of a worker."""
        defaults = {
            # Threads that spin while they wait take the processor from the front process.
            "OMP_WAIT_POLICY": "PASSIVE",
            # They still do between two products of a model.
            **thread_counts.BLAS_WAITING,
            # A model's gRPC would write a line of log whenever the model starts a program.
            "GRPC_ENABLE_FORK_SUPPORT": "0",
        }
        variables = {**defaults, **self.confinement.variables(os.environ), **self.threads}
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

    def _own_variables(self, temporary: str) -> dict[str, str]:
        """Those of a worker that has this folder for itself."""
        variables = {**self.variables(), "TMPDIR": temporary}
        if self.confinement.uid is not None:
            # These name the server's user, to whose home the worker's cannot write.
            variables["HOME"] = temporary
            for name in ("USER", "LOGNAME"):
                variables.pop(name, None)
        return variables

    def start(self, imports: Iterable[str] = ()) -> StartedWorker:
        """Start a worker that imports these modules, if it can, before it is asked to load.

        Raises:
            OSError: the process cannot be started.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # For a moment only: a signal that ends this process would leave the folder behind.
            with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
                path = str(Path(folder, "worker"))
                listener.bind(path)
                listener.listen()
                connection.connect(path)
            temporary = WorkerFolder(self.confinement.uid)
            try:
                process, output = self._popen(listener.fileno(), imports, temporary.path)
            except BaseException:
                temporary.remove()
                raise
        except BaseException:
            listener.close()
            connection.close()
            raise
        # It leads a process group.
        keeper.add(process.pid)
        return StartedWorker(process, output, connection, listener, temporary)

    def _popen(
        self, fd: int, imports: Iterable[str], temporary: str
    ) -> tuple[subprocess.Popen[bytes], int]:
        command = [
            *(self.python, str(START)),
            *("--fd", str(fd), "--parent", str(os.getpid())),
            # A custom format may look like a flag.
            *("--log-level", self.log_level, f"--log-format={self.log_format}"),
            *(["--background"] if self.in_background else []),
            *self.confinement.flags(),
            *(f"--import={module}" for module in imports),
        ]
        reading, writing = output_pipe()
        try:
            process = subprocess.Popen(
                command,
                env=self._own_variables(temporary),
                pass_fds=[fd],
                stdin=subprocess.DEVNULL,
                # Standard output is reserved for the server's ready line.
                stdout=writing,
                stderr=writing,
                start_new_session=True,
                user=self.confinement.uid,
                group=self.confinement.uid,
                extra_groups=None if self.confinement.uid is None else [],
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        descriptors.give_back(process.pid)
        return process, reading


def output_pipe() -> tuple[int, int]:
    """A pipe with a large buffer, on systems that allow asking for one."""
    reading, writing = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        # The pipes of an unprivileged user are bounded in total.
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    return reading, writing


class StartedWorker:
    """A worker's process that the server has sent nothing to yet.

    It inherited a socket that already listens, so `connection` is made, and the server's first
    frames wait in it until the interpreter is up. `output` is the descriptor that what the worker
    prints is read from. Whoever learns of its end removes `temporary`.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        output: int,
        connection: socket.socket,
        listener: socket.socket,
        temporary: WorkerFolder,
    ) -> None:
        self.process = process
        self.temporary = temporary
        self.output = output
        self.connection = connection
        self._listener = listener

    def connected(self) -> None:
        """Close what is needed only until the first frame is sent, in case the worker dies."""
        self._listener.close()

    def end(self) -> None:
        """End the process; its output is left to be read."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        keeper.remove(self.process.pid)
        self.process.kill()
        self.process.wait()
        self.temporary.remove()
        self.connection.close()
        self.connected()


def server_program(settings: ServerSettings, models: Iterable[ModelSettings]) -> WorkerProgram:
    """The program of workers that run on the server's own interpreter.

    Raises:
        ConfigurationError: workers cannot be confined here as the settings ask.
    """
    confinement.check(settings)
    # A worker that no model needs is not started, and takes no processor from the others.
    instances = sum(model.instances for model in models) or settings.parallel_workers
    threads = _threads(max(1, min(settings.parallel_workers, instances)))
    log_format = logs.settled(settings.log_format)
    return WorkerProgram(
        *(sys.executable, settings.log_level, log_format, threads),
        confinement=Confinement.of(settings),
    )


def _threads(workers: int) -> dict[str, str]:
    """Variables for a worker that shares the processors of this process with others like it."""
    usable = processors.usable()
    share = max(1, usable // workers)
    added = thread_counts.variables(os.environ, share, processors.installed())
    if thread_counts.OPENMP in added:
        logger.info(
            "each worker computes with %d of this machine's %d processors, unless %s is set: it "
            "may use %d, with %d workers",
            *(share, processors.installed(), thread_counts.OPENMP, usable, workers),
        )
    return added
