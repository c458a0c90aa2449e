"""Which version of a model has which part of its requests. Pure: it reads no clock and no file."""

from __future__ import annotations

from dataclasses import dataclass, replace

from headrace.rollouts.record import Outcome, Record
from headrace.sources.follow import Canary, Followed
from headrace.sources.model_registry import Registered


@dataclass(frozen=True)
class Desired:
    """The roles of versions. `stable` is None if the registry names no such version.

    `percent` of the requests are for the canary, whose present step is the `step`th, from 0. The
    step ends at `ends`, in seconds since 1970, if it ends by itself. With `is_over`, the steps of
    the version in `stable` have come to their end, and it takes the place of the previous version.
    """

    stable: str | None
    canary: str | None = None
    shadow: str | None = None
    percent: float = 0.0
    step: int = 0
    ends: float | None = None
    is_over: bool = False

    @property
    def versions(self) -> set[str]:
        """The versions that requests reach."""
        return {each for each in (self.stable, self.canary) if each is not None}


def named(registered: Registered, followed: Followed) -> set[str | None]:
    """The versions that the registry names, whatever has become of them."""
    follow = followed.follow
    others = (each.alias for each in (follow.canary, follow.shadow) if each is not None)
    return {registered.version(selector) for selector in (followed.stable, *others)}


def candidate(registered: Registered, followed: Followed) -> str | None:
    """The version that the registry names as the canary, whatever has become of it."""
    canary = followed.follow.canary
    return registered.version(canary.alias) if canary is not None else None


def desired(
    registered: Registered, followed: Followed, record: Record | None, now: float
) -> Desired:
    """What the registry, the configuration, the record and the clock say together.

    A record of another canary than the one that the registry names says nothing.
    """
    follow = followed.follow
    stable = registered.version(followed.stable)
    shadow = registered.version(follow.shadow.alias) if follow.shadow is not None else None
    version = candidate(registered, followed)
    if stable is None or follow.canary is None or version is None or version == stable:
        found = Desired(stable)
    else:
        found = _rollout(stable, version, follow.canary, record, now)
    return replace(found, shadow=None if shadow == found.stable else shadow)


def _rollout(
    stable: str, version: str, canary: Canary, record: Record | None, now: float
) -> Desired:
    """The roles of two different versions, of which the second is the canary for now."""
    shares = canary.shares
    if record is None or record.canary != version:
        return Desired(stable, version, percent=shares[0])
    if record.outcome is Outcome.ROLLED_BACK:
        return Desired(stable)
    if record.outcome is Outcome.PROMOTED:
        # Unless the registry has named another stable version since.
        return Desired(version if record.stable == stable else stable)
    if record.outcome is Outcome.HELD:
        step = max((at for at, each in enumerate(shares) if each <= record.percent), default=0)
        return Desired(stable, version, percent=record.percent, step=step)
    bake = canary.step_seconds
    if bake is None:
        return Desired(stable, version, percent=shares[0])
    step = int(max(now - record.since, 0.0) // bake) if bake else len(shares)
    if step >= len(shares) and shares[-1] == 100:
        return Desired(version, is_over=True)
    at = min(step, len(shares) - 1)
    is_last = at == len(shares) - 1 and shares[-1] < 100
    ends = None if is_last else record.since + (at + 1) * bake
    return Desired(stable, version, percent=shares[at], step=at, ends=ends)
