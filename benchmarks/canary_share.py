"""`python -m benchmarks.canary_share`: how exactly requests are divided, and what that costs.

Each request goes through the resolver, as those of a server do; no model is asked. It counts the
requests that the canary gets when they are spaced evenly and when each has another caller, the
callers that move back while the percentage grows, and the time that finding the version takes.
"""

from __future__ import annotations

import json
from time import perf_counter
from typing import Any, cast

from benchmarks import machine, result_files, session

from headrace.adapters.open_inference import OpenInference
from headrace.dataplane import Call
from headrace.dataplane.resolve import Resolver
from headrace.repository.repository import ModelRepository
from headrace.rollouts.traffic import Traffic
from headrace.serving.served_model import ServedModel, State
from headrace.settings import ModelSettings
from headrace.sources.follow import Followed

REQUESTS = 100_000
PERCENT = 10
GROWTH = (1, 5, 10, 20, 50, 90, 100)
PROTOCOL = OpenInference()


class Versions:
    """A stable version 1 and a canary 2, both ready; in place of a repository."""

    def __init__(self) -> None:
        settings = [ModelSettings("wine", "mlflow", version=version) for version in "12"]
        self.stable, self.canary = (
            ServedModel(each, key=str(each.version), state=State.READY) for each in settings
        )

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """The stable version, which requests without a version get otherwise."""
        return self.stable

    def is_ready(self, model: ServedModel) -> bool:
        """Both are."""
        return True


def arranged(**sticky: Any) -> tuple[Resolver, Traffic, Versions]:
    """A resolver with one followed model, whose canary gets its part."""
    canary = {"alias": "@challenger", "percent": PERCENT, **sticky}
    uri = "models:/wine@champion"
    followed = Followed(ModelSettings("wine", "mlflow", uri=uri, follow={"canary": canary}))
    traffic, versions = Traffic(followed, lambda reason: None), Versions()
    traffic.stable = versions.stable
    traffic.start_canary(versions.canary, PERCENT, 0)
    return Resolver(cast(ModelRepository, versions), {"wine": traffic}), traffic, versions


def found(resolver: Resolver, versions: Versions, caller: str | None = None) -> bool:
    """Whether the canary gets the next request."""
    call = Call("bench", "infer", "1", None, {} if caller is None else {"x-user-id": caller})
    return resolver.find("wine", None, PROTOCOL, call) is versions.canary


def shared(of_callers: bool) -> dict[str, float]:
    """How many of all requests the canary gets, and how far that is from its part."""
    resolver, _, versions = arranged(**({"sticky": {"header": "x-user-id"}} if of_callers else {}))
    callers = [f"user-{number}" if of_callers else None for number in range(REQUESTS)]
    count = sum(found(resolver, versions, caller) for caller in callers)
    expected = REQUESTS * PERCENT / 100
    deviation = (expected * (1 - PERCENT / 100)) ** 0.5
    return {"canary": count, "standard_deviations": round((count - expected) / deviation, 3)}


def moved_back() -> int:
    """Callers who had the canary and then, at a higher percentage, had not."""
    resolver, traffic, versions = arranged(sticky={"header": "x-user-id"})
    before: set[int] = set()
    back = 0
    for step, percent in enumerate(GROWTH):
        traffic.start_canary(versions.canary, percent, step)
        now = {each for each in range(REQUESTS) if found(resolver, versions, f"user-{each}")}
        back += len(before - now)
        before = now
    assert len(before) == REQUESTS, "at 100 % everybody has the canary"
    return back


def microseconds() -> dict[str, float]:
    """What finding the version takes: of a model that is not followed, and of one that is."""
    times = {}
    resolver, traffic, versions = arranged()
    plain = Resolver(cast(ModelRepository, versions))
    sticky, _, others = arranged(sticky={"header": "x-user-id"})
    call = Call("bench", "infer", "1", None, {"x-user-id": "alice"})
    for name, each in (("not followed", plain), ("evenly", resolver), ("by caller", sticky)):
        begin = perf_counter()
        for _ in range(REQUESTS):
            each.find("wine", None, PROTOCOL, call)
        times[name] = round((perf_counter() - begin) / REQUESTS * 1e6, 3)
    return times


def main() -> int:
    """Count, print, write the result."""
    path = result_files.place("canary_share")
    result = {
        "machine": machine.describe(result_files.ROOT, ""),
        "requests": REQUESTS,
        "percent": PERCENT,
        "evenly": shared(of_callers=False),
        "by_caller": shared(of_callers=True),
        "growth": list(GROWTH),
        "callers_moved_back": moved_back(),
        "microseconds_to_find": microseconds(),
    }
    print(json.dumps(result, indent=1))
    result_files.write(path, result)
    return 0


if __name__ == "__main__":
    session.run(main)
