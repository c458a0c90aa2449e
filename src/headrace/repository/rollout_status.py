"""The state of a rollout, for people and for scripts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from headrace.rollouts.desired import Desired
from headrace.rollouts.evidence import Evidence, Latencies
from headrace.rollouts.record import Record
from headrace.rollouts.traffic import Traffic
from headrace.serving.served_model import ServedModel
from headrace.sources.follow import Followed


def rollout_status(traffic: Traffic, wanted: Desired, record: Record | None) -> dict[str, Any]:
    """The roles of versions now, what is counted of the canary, and what was decided about one."""
    stable = _version(traffic.stable)
    moves = wanted.stable is not None and stable != {"version": wanted.stable}
    return {
        "model": traffic.name,
        "stable": stable,
        # The version that takes the stable one's place once it is loaded.
        "moves_to": wanted.stable if moves else None,
        "canary": _canary(traffic, wanted),
        "shadow": _version(traffic.shadow),
        "rollout": _recorded(record),
    }


def why_none(
    traffic: Traffic,
    followed: Followed,
    version: str | None,
    served: ServedModel | None,
    is_loading: bool,
) -> str | None:
    """Why there is no canary, for people; None if there is one.

    `version` is what the registry names as the canary, and `served` is that version if it is known.
    """
    canary = followed.follow.canary
    if traffic.canary is not None:
        return None
    if canary is None:
        return "the settings of the model have none"
    if version is None:
        return f"registered model '{followed.registered}' has no {canary.alias}"
    if served is not None and served is traffic.stable:
        return f"{canary.alias} is version {version}, which is the stable one"
    if is_loading:
        return f"version {version} is being loaded"
    reason = f": {served.reason}" if served is not None and served.reason else ""
    return f"version {version} gets no requests until {canary.alias} moves{reason}"


def _version(model: ServedModel | None) -> dict[str, Any] | None:
    return None if model is None else {"version": model.version}


def _canary(traffic: Traffic, wanted: Desired) -> dict[str, Any] | None:
    canary, settings = traffic.canary, traffic.follow.canary
    if canary is None or settings is None:
        return None
    return {
        "version": canary.version,
        "percent": traffic.percent,
        "steps": settings.shares,
        "step": wanted.step,
        "step_ends": _time(wanted.ends),
        **_counted(traffic.evidence),
    }


def _counted(evidence: Evidence) -> dict[str, Any]:
    """What is counted since the step began."""
    return {
        "requests": evidence.requests,
        "failures": evidence.failures,
        "p99_ms": _p99(evidence.canary),
        "stable_p99_ms": _p99(evidence.stable),
        "compared": evidence.agreed + evidence.disagreed,
        "disagreed": evidence.disagreed,
    }


def _p99(latencies: Latencies) -> float | None:
    return round(latencies.percentile(0.99) * 1000, 3) if latencies.count else None


def _recorded(record: Record | None) -> dict[str, Any] | None:
    if record is None:
        return None
    return {
        "version": record.canary,
        "instead_of": record.stable,
        "since": _time(record.since),
        "outcome": str(record.outcome) or "running",
        "decided": _time(record.at or None),
        "reason": record.reason,
    }


def _time(seconds: float | None) -> str | None:
    """Seconds since 1970 as ISO 8601."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
