"""How the requests for one followed model are divided; what the request path sees of a rollout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from headrace.rollouts.evidence import Evidence
from headrace.rollouts.split import Spacing, point, salt, threshold
from headrace.serving.served_model import ServedModel
from headrace.sources.follow import Followed


class Asking(Protocol):
    """What can be known of a request before its model is."""

    def header(self, name: str) -> str | None:
        """A header field, or a key of gRPC's metadata, by its lower-case name."""

    def member(self, path: str) -> str | None:
        """The text or number at a dotted path of the body."""


class Traffic:
    """The versions of one followed model that have a role now, each of them loaded.

    `percent` of the requests that name no version are for the canary. `breached` is called with
    the reason when a rule ends the canary, which has no more requests from then on. `failures`
    counts the requests that canaries failed, by version and kind of error.
    """

    def __init__(self, followed: Followed, breached: Callable[[str], None]) -> None:
        self.name = followed.settings.name
        self.follow = followed.follow
        self.stable: ServedModel | None = None
        self.canary: ServedModel | None = None
        self.shadow: ServedModel | None = None
        self.percent = 0.0
        self.evidence = Evidence(self.follow.rollback)
        self.failures: Counter[tuple[str, str]] = Counter()
        self.rollbacks = 0
        self._registered = followed.registered
        self._breached = breached
        canary = self.follow.canary
        sticky = canary.sticky if canary is not None else None
        self._header = (sticky.header or "").lower() if sticky is not None else ""
        self._field = (sticky.field or "") if sticky is not None else ""
        self._spacing = Spacing()
        self._salt = b""
        self._threshold = 0
        self._step: tuple[ServedModel, int] | None = None

    @property
    def deciding_member(self) -> str:
        """The path of the member of a body that decides, if bodies have to be read for that."""
        return self._field if self._threshold else ""

    def start_canary(self, canary: ServedModel, percent: float, step: int) -> None:
        """Give a version this percentage of the requests, as the `step`th step of its rollout."""
        if self._step != (canary, step):
            # At 100 %, there is no more of the stable version than what is known already.
            known = self.evidence.stable if percent == 100 and self.canary is canary else None
            self.evidence = Evidence(self.follow.rollback, known)
            self._step = canary, step
        self._salt = salt(self._registered, canary.version or "")
        self.canary, self.percent, self._threshold = canary, percent, threshold(percent)

    def end_canary(self) -> None:
        """Give all requests to the stable version."""
        self.canary, self.percent, self._threshold, self._step = None, 0.0, 0, None

    def choose(self, asking: Asking) -> ServedModel | None:
        """The canary, if it is to answer this request. Hot."""
        if not self._threshold or self.canary is None:
            return None
        key = None
        if self._header:
            key = asking.header(self._header)
        elif self._field:
            key = asking.member(self._field)
        # All those whose key is empty are not one caller.
        place = point(self._salt, key) if key else self._spacing.next()
        return self.canary if place < self._threshold else None

    def answered(self, model: ServedModel, seconds: float) -> None:
        """Count a request that the version answered to which it was given."""
        if model is self.canary:
            self._judge(self.evidence.answer(seconds))
        elif self.canary is not None:
            self.evidence.stable.add(seconds)

    def failed(self, model: ServedModel, kind: str) -> None:
        """Count a request that a canary failed by its own fault."""
        self.failures[model.version or "", kind] += 1
        if model is self.canary:
            self._judge(self.evidence.fail(kind))

    def record_comparison(self, agreed: bool) -> None:
        """Count an answer of the shadow that was compared with that of another version.

        It says something about the canary only if that is the version in the shadow.
        """
        canary, shadow = self.canary, self.shadow
        if canary is not None and shadow is not None and canary.version == shadow.version:
            self._judge(self.evidence.compare(agreed))

    def roll_back(self) -> None:
        """As `end_canary`, and count it."""
        self.rollbacks += 1
        self.end_canary()

    def _judge(self, reason: str) -> None:
        if reason:
            self.roll_back()
            self._breached(reason)
