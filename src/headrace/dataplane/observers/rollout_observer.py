"""Counts how fast canaries and stable versions answer, for the rules that end a canary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.dataplane.observers.observer import Observer

if TYPE_CHECKING:
    from headrace.dataplane.call import Call


class RolloutObserver(Observer):
    """Counts calls answered by the version that they were given; `CanaryCall` counts the rest."""

    def answered(self, call: Call) -> None:
        if call.traffic is not None and call.given is not None and call.given is call.model:
            call.traffic.answered(call.given, call.seconds)
