"""grpcio's server, which is started again where it ends by itself.

grpcio decodes the path of a call in the task that takes calls, and a path that is not UTF-8 ends
the task, and the server with it: one client could keep gRPC from all others.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

import grpc

logger = logging.getLogger("headrace.grpc")

# Seconds until another try to listen, while something else still has the port.
RETRY = 0.1


class RestartedServer:
    """A `grpc.aio.Server` as far as it is used here. Calls in flight do not survive a restart."""

    def __init__(self, options: Sequence[tuple[str, Any]]) -> None:
        self._options = options
        self._server = self._made()
        # What makes a new server like the first one.
        self._steps: list[Callable[[grpc.aio.Server], Any]] = []
        self._ends: list[asyncio.Task[Any]] = []
        self._watching: asyncio.Task[None] | None = None
        self._is_stopping = False
        # Why the last try to start a new server failed.
        self._failure = ""

    def _made(self) -> grpc.aio.Server:
        return grpc.aio.server(options=self._options)

    def _step(self, step: Callable[[grpc.aio.Server], Any]) -> None:
        step(self._server)
        self._steps.append(step)

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._step(lambda server: server.add_generic_rpc_handlers(handlers))

    def add_insecure_port(self, address: str) -> int:
        """Listen on an address; returns the port, which a new server will have as well."""
        return self._add_port(address, lambda server, at: server.add_insecure_port(at))

    def add_secure_port(
        self, address: str, credentials: Callable[[], grpc.ServerCredentials]
    ) -> int:
        """As `add_insecure_port`, with TLS. Each server needs credentials of its own."""
        return self._add_port(address, lambda server, at: server.add_secure_port(at, credentials()))

    def _add_port(self, address: str, add: Callable[[grpc.aio.Server, str], int]) -> int:
        port = add(self._server, address)
        found = f"{address.rpartition(':')[0]}:{port}"
        self._steps.append(lambda server: add(server, found))
        return port

    async def start(self) -> None:
        self._ends = await _started(self._server)
        self._watching = asyncio.create_task(self._watch())

    async def stop(self, grace: float | None) -> None:
        self._is_stopping = True
        await self._server.stop(grace)
        if self._watching is not None:
            await self._watching

    async def _watch(self) -> None:
        while not self._is_stopping:
            error = await _end(self._ends)
            if not self._is_stopping:
                logger.error("grpcio's server has ended, and is started again: %s", error)
            while not self._is_stopping and not await self._restarted():
                await asyncio.sleep(RETRY)

    async def _restarted(self) -> bool:
        """Whether a new server has been started.

        Whatever keeps it from that may pass, as a lack of descriptors does. Without another try,
        gRPC would be gone for good.
        """
        server = self._made()
        try:
            for step in self._steps:
                step(server)
            self._ends = await _started(server)
        except Exception as error:
            self._log_failure(error)
            await server.stop(None)
            return False
        self._failure = ""
        if self._is_stopping:
            await server.stop(None)
        self._server = server
        return True

    def _log_failure(self, error: Exception) -> None:
        """Once for all tries that fail alike."""
        failure = f"{type(error).__name__}: {error}"
        if failure != self._failure:
            logger.error("grpcio's server cannot be started again yet: %s", failure)
        self._failure = failure


async def _started(server: grpc.aio.Server) -> list[asyncio.Task[Any]]:
    """Start a server; returns the tasks that tell of its end: see `_end`.

    A server that fails has to end all its calls before it says that it has terminated, and waits
    for clients that may not answer. The task that takes calls ends at once. It is grpcio's own, and
    only those have coroutines that are not Python's.
    """
    before = asyncio.all_tasks()
    await server.start()
    new = asyncio.all_tasks() - before
    own = [task for task in new if not inspect.iscoroutine(task.get_coro())]
    for task in own:
        # They all fail with the same, one after the other.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return [asyncio.create_task(server.wait_for_termination()), *own]


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> BaseException | None:
    """Wait until a server ends; returns what ended it, if that is known.

    The first of the tasks waits for its termination. Of the others, one that fails has ended the
    server; one that does not has taken a call, or answered it.
    """
    termination, pending = tasks[0], set(tasks)
    while termination in pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled() and (error := task.exception()):
                return error
    return None
