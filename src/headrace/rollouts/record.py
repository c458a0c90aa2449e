"""What is remembered of one canary: when it began, and what was decided about it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from headrace.errors import shorten

# The tag of a registered model that replicas share; MLflow takes up to 5000 characters.
TAG = "headrace.rollout"
LONGEST = 4000
LONGEST_REASON = 1000
# Seconds that a decision is later than the one that it changes, whatever the clock says.
LATER = 0.001

# Anybody who may set tags may write a record: seconds since 1970, up to the year 5138.
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
Percentage = Annotated[float, msgspec.Meta(ge=0, le=100)]


class Outcome(StrEnum):
    """What was decided about a canary. Nothing is decided about one whose steps go on."""

    NONE = ""
    HELD = "held"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One canary of a model. Times are seconds since 1970, on the clocks of all replicas.

    `since` is when its first step began, and `stable` the version that it was to replace. `percent`
    is what it is held at. `at` is when its outcome was decided, and `reason` says why.
    """

    stable: str
    canary: str
    since: Seconds
    outcome: Outcome = Outcome.NONE
    at: Seconds = 0.0
    percent: Percentage = 0.0
    reason: str = ""

    def has_rolled_back(self, version: str) -> bool:
        """Whether a version was a canary that a rule, or somebody, has ended."""
        return self.outcome is Outcome.ROLLED_BACK and self.canary == version

    def instead_of(self, stable: str) -> Record:
        """The same canary, which is to replace another version now."""
        return msgspec.structs.replace(self, stable=stable)

    def decided(
        self, outcome: Outcome, at: float, reason: str = "", percent: float = 0.0
    ) -> Record:
        """The same canary with another outcome.

        It is later than the one before, even if that is from a server whose clock is ahead.
        """
        if self.outcome is not Outcome.NONE:
            at = max(at, self.at + LATER)
        return msgspec.structs.replace(
            self, outcome=outcome, at=at, reason=reason[:LONGEST_REASON], percent=percent
        )


def encoded(record: Record) -> str:
    """A record as JSON."""
    return msgspec.json.encode(record).decode()


def decoded(text: str | bytes) -> Record | None:
    """The record in a text, or None if it cannot be read."""
    if len(text) > LONGEST:
        return None
    try:
        found = msgspec.json.decode(text, type=Record)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return msgspec.structs.replace(found, reason=_printable(found.reason))


def _printable(reason: str) -> str:
    """A reason that anybody who may set a tag can have written."""
    return reason if reason.isprintable() else shorten(reason, LONGEST_REASON)


def agreed(own: Record | None, shared: Record | None, canary: str | None) -> Record | None:
    """What counts of the present canary, if this server and the others remember different things.

    The later decision counts, and any decision more than none.
    """
    found = [each for each in (shared, own) if each is not None and each.canary == canary]
    return max(found, key=lambda record: record.at, default=own)
