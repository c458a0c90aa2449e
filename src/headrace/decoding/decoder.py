"""The process that decodes large bodies, as the server sees it."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from headrace.decoding.exchange import DONE, READY, ROOM, Exchange
from headrace.errors import WorkerCrashed
from headrace.executors import descriptors
from headrace.executors.confinement import Confinement
from headrace.executors.daemon_thread import DaemonThread
from headrace.executors.shared_memory import SharedMemory, shared_memory
from headrace.protocol.tensor import Buffer

logger = logging.getLogger("headrace.decoding")

T = TypeVar("T")

# Seconds without anything to decode after which the process ends.
IDLE = 60.0
# Seconds within which it says something: far more than the largest body takes.
SILENCE = 30.0


class Decoder:
    """Runs functions in a process of its own, one at a time; for one event loop.

    A parser holds the interpreter's lock for as long as it runs: 0.1 to 0.3 s for a body of 60 MB,
    in a thread or not. The process is started when there is something to do, and ends when there
    has been nothing for a minute. Where none can be started, a thread does the work.
    """

    def __init__(self) -> None:
        self._thread: DaemonThread | None = None
        self._process: _Process | None = None
        self._running = 0
        self._resting: asyncio.TimerHandle | None = None

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """What a function of a module returns; it and its arguments are pickled.

        Raises:
            WorkerCrashed: the process has died.
        """
        if self._thread is None:
            self._thread = DaemonThread("decoder")
        if self._resting is not None:
            self._resting.cancel()
        self._running += 1
        call: list[Any] = [work, arguments]
        # The process has a copy of its own: a body is let go of once it is sent.
        del arguments
        job = self._thread.submit(self._run, call)
        try:
            await asyncio.wrap_future(job)
            result: T = call.pop()
            return result
        finally:
            if job.cancel():
                # The caller has given up, and the thread would keep the body until its turn.
                call.clear()
            self._running -= 1
            if not self._running:
                loop = asyncio.get_running_loop()
                self._resting = loop.call_later(IDLE, self._rest)

    async def close(self) -> None:
        """End the process, whatever it does."""
        if self._resting is not None:
            self._resting.cancel()
        thread, self._thread = self._thread, None
        if self._process is not None:
            # The thread may wait for it.
            self._process.kill()
        if thread is not None:
            await asyncio.wrap_future(thread.submit(self._end))
            thread.end()

    def _rest(self) -> None:
        if self._thread is not None:
            self._thread.submit(self._end)

    def _run(self, call: list[Any]) -> None:
        """Replace a function and its arguments by what the function returns.

        A future that had it would keep it until the garbage is collected.
        """
        process = self._started()
        if process is None:
            work, arguments = call
            call[:] = [work(*arguments)]
            return
        try:
            is_done, value = process.ask(call)
        except (OSError, EOFError, pickle.UnpicklingError) as exc:
            raise WorkerCrashed("the process that decodes large bodies has died; retry") from exc
        if not is_done:
            raise value
        call.append(value)

    def _started(self) -> _Process | None:
        """The process; None if none can be started."""
        if self._process is not None and not self._process.is_alive:
            self._end()
        if self._process is None:
            try:
                self._process = _Process(shared_memory())
            except (OSError, EOFError) as exc:
                logger.warning("large bodies hold up other requests: no process decodes (%s)", exc)
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()


class _Process:
    """A live process. Its methods are called by one thread.

    Raises:
        OSError, EOFError: it cannot be started, or does not come up.
    """

    def __init__(self, memory: SharedMemory | None) -> None:
        self._memory = memory
        # The parts of the memory that the process has been lent for the call under way.
        self._lent: dict[int, memoryview] = {}
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno(), *([] if memory is None else [memory.fd])]
        ours.settimeout(SILENCE)
        self._exchange = Exchange(ours)
        self._exchange.placed = self._placed
        self._process: subprocess.Popen[bytes] | None = None
        try:
            with theirs:
                self._process = _popen(fds)
            if self._exchange.receive() != (READY, None):
                raise EOFError("it is not this program")
        except BaseException:
            self.end()
            raise

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ask(self, call: list[Any]) -> tuple[bool, Any]:
        """Whether a function returned, and what it returned or raised; empties `call`.

        Raises:
            OSError, EOFError: the process has died, or hangs.
        """
        try:
            self._exchange.send(call)
            call.clear()
            while True:
                kind, value = self._exchange.receive()
                if kind != ROOM:
                    return kind == DONE, value
                self._exchange.send(self._lend(value))
        except BaseException:
            self.end()
            raise
        finally:
            self._lent.clear()

    def kill(self) -> None:
        """Have it end, and with it the call under way. Any thread."""
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """End it now."""
        self._exchange.close()
        self.kill()
        if self._process is not None:
            self._process.wait()
        # Not before it can write there no more.
        self._lent.clear()

    def _lend(self, size: int) -> int | None:
        assert self._memory is not None, "it was given some"
        buffer = self._memory.new(size)
        if buffer is None:
            return None
        offset = self._memory.offset(buffer)
        assert offset is not None, "it was taken from there"
        self._lent[offset] = buffer
        return offset

    def _placed(self, offset: int, size: int) -> Buffer:
        for start, buffer in self._lent.items():
            if start <= offset and offset + size <= start + len(buffer):
                return buffer[offset - start :][:size].toreadonly()
        raise EOFError("it refers to memory that it was not lent")


def _popen(fds: list[int]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        # With -P, since the working directory may be that of a model, and hold modules.
        [sys.executable, "-P", "-m", "headrace.decoding", *map(str, fds)],
        # What callers send is parsed there, and the server's secrets are not needed for that.
        env=Confinement().variables(os.environ),
        pass_fds=fds,
        stdin=subprocess.DEVNULL,
        # Standard output is reserved for the server's ready line.
        stdout=2,
        start_new_session=True,
    )
    descriptors.give_back(process.pid)
    return process
