"""The start and stop of applications that a service has mounted: the lifespan protocol of ASGI."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from headrace.errors import LoadFailed, shorten

logger = logging.getLogger("headrace.services")

# Seconds that all applications may take to stop. How long they may take to start is bounded by
# how long the service may take to load.
STOP_PATIENCE = 2.0


class Lifespans:
    """The lifespans of one service's applications; `states` has what each keeps, by its path."""

    def __init__(self) -> None:
        self.states: dict[str, dict[str, Any]] = {}
        self._running: list[_Lifespan] = []

    @classmethod
    async def started(cls, mounts: Mapping[str, Any]) -> Lifespans:
        """Start every application, one after the other.

        Raises:
            LoadFailed: one says that it cannot start; those that have started are stopped.
        """
        lifespans = cls()
        for path, app in mounts.items():
            lifespan = _Lifespan(app, path)
            try:
                await lifespan.start()
            except LoadFailed:
                await lifespans.stop()
                raise
            lifespans.states[path] = lifespan.state
            lifespans._running.append(lifespan)
        return lifespans

    async def stop(self) -> None:
        """Stop the applications in the opposite order; one that hangs or fails is left."""
        ends = asyncio.get_running_loop().time() + STOP_PATIENCE
        while self._running:
            await self._running.pop().stop(ends)


class _Lifespan:
    """One application, which runs its lifespan in a task of its own."""

    def __init__(self, app: Any, path: str) -> None:
        self._app = app
        self._path = path
        self.state: dict[str, Any] = {}
        self._received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sent: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._received.put_nowait({"type": "lifespan.startup"})
        answer = await self._sent.get()
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            # Starlette gives the whole traceback.
            reason = str(answer.get("message") or "").strip() or "it gives no reason"
            logger.error("the application at %s did not start: %s", self._path, reason)
            last = reason.splitlines()[-1]
            raise LoadFailed(f"the application at {self._path} did not start: {shorten(last, 300)}")

    async def stop(self, ends: float) -> None:
        assert self._task is not None, "it was started"
        self._received.put_nowait({"type": "lifespan.shutdown"})
        patience = max(0.0, ends - asyncio.get_running_loop().time())
        done, _ = await asyncio.wait([self._task], timeout=patience)
        if not done:
            logger.error("the application at %s did not stop in time", self._path)
            self._task.cancel()

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        has_started = False

        async def send(message: dict[str, Any]) -> None:
            nonlocal has_started
            has_started = has_started or message["type"] == "lifespan.startup.complete"
            if message["type"] == "lifespan.shutdown.failed":
                logger.error(
                    "the application at %s failed to stop: %s", self._path, message.get("message")
                )
            self._sent.put_nowait(message)

        try:
            await self._app(scope, self._received.get, send)
        except asyncio.CancelledError:
            raise
        # Also what sys.exit raises, which would end the event loop.
        except BaseException as error:
            if has_started:
                logger.exception("the lifespan of the application at %s failed", self._path)
            elif not isinstance(error, Exception):
                reason = f"it raised {type(error).__name__}"
                self._sent.put_nowait({"type": "lifespan.startup.failed", "message": reason})
            # Any other exception, so early, means that the application takes no lifespan events.
        finally:
            self._sent.put_nowait(None)
