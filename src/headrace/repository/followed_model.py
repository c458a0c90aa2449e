"""What a follower knows of one model, and what it does for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from headrace.rollouts.desired import Desired
from headrace.rollouts.record import Outcome, Record
from headrace.rollouts.traffic import Traffic
from headrace.serving.served_model import ServedModel
from headrace.sources.follow import Followed
from headrace.sources.model_registry import Registered

logger = logging.getLogger("headrace.repository")


class FollowedModel:
    """A followed model: the version that answers, and those that are `rejected`.

    `awaited` stands for it in the index until a version answers. `listed` are the versions that
    were loaded or tried, and `ending` those that will be unloaded. `failure` is why a version was
    not provided the last time.
    """

    def __init__(self, followed: Followed, breached: Callable[[FollowedModel, str], None]) -> None:
        self.followed = followed
        self.traffic = Traffic(followed, lambda reason: breached(self, reason))
        self.version: str | None = None
        self.registered: Registered | None = None
        self.wanted = Desired(None)
        self.record: Record | None = None
        self.rejected: set[str | None] = set()
        self.listed: set[str | None] = set()
        self.ending: set[str | None] = set()
        self.trouble = ""
        self.failure = ""
        self.awaited: ServedModel | None = None
        # Set when the registry is to be asked at once.
        self.poll = asyncio.Event()
        # Held while the registry is asked, and its answer followed.
        self.turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        # The canary that is being loaded.
        self.loading: str | None = None
        self._load: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.followed.settings.name

    @property
    def is_decided(self) -> bool:
        """Whether a canary was promoted or rolled back, so that the clock moves nothing."""
        record = self.record
        return record is not None and record.outcome in (Outcome.PROMOTED, Outcome.ROLLED_BACK)

    def load(self, version: str, work: Coroutine[Any, Any, None]) -> None:
        """Load a canary, while everything else goes on."""
        self.loading, self._load = version, self.spawn(work)

    async def loaded(self, give_up: bool = False) -> None:
        """Wait for the canary that is being loaded, or `give_up` its load."""
        if self._load is not None:
            if give_up:
                self._load.cancel()
            await asyncio.wait([self._load])
        self.loading = self._load = None

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something for the model until `stop`."""
        task = asyncio.create_task(self._done(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # One that is cancelled before it starts leaves the work unbegun.
        task.add_done_callback(lambda _: work.close())
        return task

    async def _done(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            logger.exception("following failed; this is a bug", extra={"model": self.name})

    async def stop(self) -> None:
        """Do nothing more for the model."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
