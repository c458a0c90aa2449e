"""What is being loaded or unloaded, so that no two changes of the same model meet."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from headrace.errors import Conflict, shorten

# In the place of a version: the change is of the whole model.
WHOLE = "/"


class Changes:
    """Runs changes of models. Each is alone: with its version, or with all of its model."""

    def __init__(self) -> None:
        self._running: dict[str, dict[str | None, asyncio.Task[Any]]] = {}

    def begin(
        self, name: str, work: Coroutine[Any, Any, Any], version: str | None = WHOLE
    ) -> asyncio.Task[Any]:
        """Start a change of one version of a model, or of the whole model.

        Raises:
            Conflict: the model, or that version, is already being loaded or unloaded.
        """
        running = self._running.setdefault(name, {})
        if running and (version == WHOLE or not running.keys().isdisjoint((version, WHOLE))):
            work.close()
            raise Conflict(f"model '{shorten(name)}' is already being loaded or unloaded")
        task = running[version] = asyncio.create_task(work)

        def ended(done: asyncio.Task[Any]) -> None:
            del running[version]
            if not running and self._running.get(name) is running:
                del self._running[name]
            # A task that is cancelled before it starts leaves the work unbegun.
            work.close()
            # The caller may have left, and then nobody reads the outcome.
            if not done.cancelled():
                done.exception()

        task.add_done_callback(ended)
        return task

    async def settled(self, name: str) -> None:
        """Wait until a model is not being changed."""
        while running := self._running.get(name):
            await asyncio.wait(running.values())

    async def cancel(self, patience: float) -> None:
        """Give up all changes, and wait up to `patience` seconds for their end."""
        running = [task for tasks in self._running.values() for task in tasks.values()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=patience)
