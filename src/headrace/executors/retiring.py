"""A worker in which one model hangs, while its replacement comes up beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from headrace.executors.executor import STOP_GRACE, WorkerLost
from headrace.executors.process import WorkerProcess

logger = logging.getLogger("headrace.executors")

# A worker that does not react for this long cannot answer for its other models.
REACTION = 1.0
# How often to look whether the last answers of a worker have arrived, in seconds.
CHECK_INTERVAL = 0.05


class Retiring:
    """A worker that still answers for `keys`, the models it holds besides those that hang.

    Nothing stops native code but the end of its process, and other models share that process.
    They answer in it until `replaced` is set, and it ends after its last answer.
    """

    def __init__(
        self, process: WorkerProcess, keys: set[str], on_end: Callable[[Retiring], None]
    ) -> None:
        self._on_end = on_end
        self.process = process
        self.keys = keys
        self.replaced = asyncio.Event()
        self._task = asyncio.create_task(self._retire())

    def holds(self, key: str) -> bool:
        """Whether a model could answer here now."""
        return key in self.keys and not self.process.channel.is_lost

    def give_up(self, key: str, reason: WorkerLost) -> None:
        """Note that this model hangs here too; its requests run elsewhere."""
        self.keys.discard(key)
        self.process.channel.give_up(key, reason)

    def end(self, why: str) -> None:
        """End the worker now; requests in it run again elsewhere."""
        if not self.process.channel.is_lost:
            logger.warning("%s", why, extra={"pid": self.process.pid})
            self.process.kill(WorkerLost(why, True))

    async def stop(self) -> None:
        """End the worker, and wait until it has."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self.process.stop(STOP_GRACE)

    async def _retire(self) -> None:
        process = self.process
        if not await process.reacts(REACTION):
            self.end("the worker does not react, so that none of its models can answer")
        await first_of(self.replaced, process.exited)
        self.keys.clear()
        # Each call has a deadline of its own.
        while not process.channel.is_lost and not process.channel.is_idle:
            await asyncio.sleep(CHECK_INTERVAL)
        await process.stop(STOP_GRACE)
        self._on_end(self)


async def first_of(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()
