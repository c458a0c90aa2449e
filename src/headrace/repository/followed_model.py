"""What a follower knows of one model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace.rollouts.desired import Desired
from headrace.rollouts.record import Outcome, Record
from headrace.rollouts.traffic import Traffic
from headrace.serving.served_model import ServedModel
from headrace.sources.follow import Followed
from headrace.sources.model_registry import Registered


class FollowedModel:
    """A followed model: the version that answers, and those that are `rejected`.

    `awaited` stands for it in the index until a version answers. `listed` are the versions that
    were loaded or tried, and `ending` those that will be unloaded.
    """

    def __init__(self, followed: Followed, breached: Callable[[FollowedModel, str], None]) -> None:
        self.followed = followed
        self.traffic = Traffic(followed, lambda reason: breached(self, reason))
        self.version: str | None = None
        self.registered: Registered | None = None
        self.wanted = Desired(None)
        self.record: Record | None = None
        self.rejected: set[str | None] = set()
        self.listed: set[str] = set()
        self.ending: set[str] = set()
        self.trouble = ""
        self.awaited: ServedModel | None = None
        # Set when the registry is to be asked at once.
        self.poll = asyncio.Event()

    @property
    def name(self) -> str:
        return self.followed.settings.name

    @property
    def is_decided(self) -> bool:
        """Whether a canary was promoted or rolled back, so that the clock moves nothing."""
        record = self.record
        return record is not None and record.outcome in (Outcome.PROMOTED, Outcome.ROLLED_BACK)
