"""One worker process: spawn it, watch it, end it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass

from headrace.errors import OUTSIDE
from headrace.executors.channel import DIED, Channel
from headrace.executors.early_worker import EarlyWorker
from headrace.executors.executor import STOP_GRACE, WorkerLost
from headrace.executors.memory import out_of_memory
from headrace.executors.output import Output
from headrace.executors.runner_answers import AskModel, refuse
from headrace.executors.worker_program import StartedWorker, WorkerProgram
from headrace.keeper import keeper
from headrace.worker.frames import Kind

# Seconds that a process may take to end once it has closed its connection.
LINGER = 0.5
# What is said of a worker that SIGKILL has ended, by whether memory is known to have run out.
KILLED = {
    True: "was killed by the kernel because memory ran out",
    False: "was killed by SIGKILL (not by the server, and not for lack of memory)",
    None: "was killed by SIGKILL (not by the server, possibly for lack of memory)",
}


@dataclass(frozen=True)
class Environment(WorkerProgram):
    """What workers run as, and what they share.

    `ask` answers what runners in them ask of other models. `early` may hold a worker of this
    program that was started already.
    """

    ask: AskModel = refuse
    early: EarlyWorker | None = None

    def spawn(self) -> StartedWorker:
        """The worker that was started already, or another one.

        Raises:
            OSError: the process cannot be started.
        """
        started = self.early.take() if self.early is not None else None
        return started or self.start()


class WorkerProcess:
    """A live worker and the channel to it."""

    def __init__(
        self,
        started: StartedWorker,
        channel: Channel,
        output: Output,
        memory_limit: int | None = None,
    ) -> None:
        self._process = started.process
        self._memory_limit = memory_limit
        self._temporary = started.temporary
        self._output = output
        self._pidfd: int | None = None
        self.channel = channel
        self.fate = ""
        # Whether something outside ended it, and whether that was for lack of memory.
        self.was_killed = self.ran_out_of_memory = False
        # Why the server ended it, if it did.
        self.ended: WorkerLost | None = None
        self.exited = asyncio.Event()
        # What `reacts` has asked last.
        self._probe: asyncio.Future[object] | None = None

    @classmethod
    async def spawn(cls, environment: Environment) -> WorkerProcess:
        """Start a worker and connect to it."""
        # Only what the kernel kills for lack of memory from now on may be this one.
        out_of_memory().has_struck()
        started = environment.spawn()
        output = Output(started.output, started.process.pid)
        channel = None
        try:
            channel = await Channel.connect(started.connection, environment.ask)
            worker = cls(started, channel, output, environment.confinement.memory_limit)
            worker._watch()
        except BaseException:
            if channel is not None:
                channel.lose(WorkerLost("the worker process could not be watched"))
            started.end()
            output.close()
            raise
        started.connected()
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    async def death(self) -> WorkerLost:
        """How it ended while loading a model; waits until it has."""
        await self.exited.wait()
        message = f"the worker process {self.fate} while loading it"
        if self._memory_limit is not None and self.ended is None:
            # Libraries that get no memory end the process, and say so in words of their own.
            message += (
                f", which its memory_limit of {self._memory_limit} bytes may be too small for"
            )
        return self._lost(message)

    def _lost(self, message: str) -> WorkerLost:
        blameless = self.ended is not None and self.ended.blameless
        return WorkerLost(message, blameless, self.was_killed, self.ran_out_of_memory)

    def kill(self, reason: WorkerLost | None = None) -> None:
        """End the process now; its waiting calls fail with `reason`, which the log shows."""
        self.channel.lose(reason or WorkerLost("the worker process was ended"))
        if self._process.poll() is None:
            self.ended = self.ended or reason
            self._process.kill()

    def probe(self) -> asyncio.Future[object]:
        """A future that is done when the process has answered what no model is needed for.

        One that does not answer is stuck as a whole: it was stopped, or native code that hangs
        holds the interpreter's lock. It is asked again only after it has answered.

        Raises:
            WorkerLost: it has ended, or is about to.
        """
        if self._probe is None or self._probe.done():
            # It is answered by a thread of its own, as requests are, and changes nothing.
            self._probe = self.channel.request(Kind.UNLOAD, {"model": ""})
            self._probe.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._probe

    async def reacts(self, timeout: float) -> bool:
        """Whether the process answers within so many seconds."""
        if self.channel.is_lost:
            return False
        answered, _ = await asyncio.wait([self.probe()], timeout=timeout)
        return bool(answered)

    async def end_if_stuck(self, why: str) -> None:
        """End the process if it does not react; `why` says what it should have done."""
        if not await self.reacts(STOP_GRACE) and not self.channel.is_lost:
            self.kill(WorkerLost(f"{why}, and the worker does not react", True))

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
        self.channel.on_hang_up = self._on_hang_up

    def _on_hang_up(self) -> None:
        """Wait for its end: a process that dies hangs up a moment before it is known how."""
        if self._pidfd is not None:
            asyncio.get_running_loop().call_later(LINGER, self._end_lingering)
        else:
            self._end_lingering()
            self._process.wait()
            self._on_exit()

    def _end_lingering(self) -> None:
        # A worker that closed its socket is lost, even if the process goes on.
        if not self.exited.is_set():
            self.kill(WorkerLost("the worker process closed its connection"))

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
        keeper.remove(self._process.pid)
        self._find_cause(self._process.wait())
        self._output.close()
        # There may be much in it.
        asyncio.get_running_loop().run_in_executor(None, self._temporary.remove)
        self.channel.lose(self._lost(DIED))
        self.exited.set()

    def _find_cause(self, code: int) -> None:
        if code != -signal.SIGKILL:
            self.was_killed = -code in OUTSIDE
            self.fate = _describe(code)
        elif self.ended is not None:
            self.was_killed = self.ended.blameless
            self.fate = f"was ended by the server ({self.ended.message})"
        else:
            struck = out_of_memory().has_struck()
            self.ran_out_of_memory = bool(struck)
            self.was_killed = not struck
            self.fate = KILLED[struck]


def _describe(code: int) -> str:
    if code >= 0:
        return f"exited with status {code}"
    # Most real-time signals have no name.
    names = {each.value: each.name for each in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"
