"""Mirrors requests to shadows: versions of models whose answers nobody sees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from headrace.dataplane.lull import Lull
from headrace.dataplane.mirror import Mirror
from headrace.dataplane.observers.observer import Observer
from headrace.executors.daemon_thread import DaemonThread

if TYPE_CHECKING:
    from headrace.dataplane.call import Call
    from headrace.protocol.messages import InferenceRequest, InferenceResponse
    from headrace.serving.served_model import ServedModel


class Shadows(Observer):
    """The shadows of all models, one for each.

    Mirrored are requests that name no version and that the primary has answered. Streams are not,
    and neither are calls of a model's own routes, which may do more than answer. `observe` makes
    an observer see the calls; until there is a shadow, this one sees none.
    """

    def __init__(self, observe: Callable[[Observer], None]) -> None:
        self._observe = observe
        self._observes = False
        self._mirrors: dict[str, Mirror] = {}
        self._lull = Lull()
        self._comparing: DaemonThread | None = None

    def begin(
        self,
        primary: ServedModel,
        shadow: ServedModel,
        sample: float,
        tolerance: float,
        judge: Callable[[bool], None],
    ) -> None:
        """Mirror this share of the primary's requests, from now on, and to this shadow alone.

        `judge` gets the outcome of each comparison, see `Mirror`. What is mirrored already goes on.
        """
        found = self._mirrors.get(primary.name)
        if found is not None and found.primary is primary and found.shadow is shadow:
            return
        self.end(primary.name)
        self._mirrors[primary.name] = Mirror(
            primary, shadow, sample, tolerance, judge, self._lull, self._thread
        )
        if not self._observes:
            self._observes = True
            self._observe(self)

    def end(self, name: str) -> None:
        """Mirror no more requests of a model. Unknown names are fine."""
        mirror = self._mirrors.pop(name, None)
        if mirror is not None:
            mirror.end()

    def close(self) -> None:
        """End all of them."""
        for name in list(self._mirrors):
            self.end(name)
        if self._comparing is not None:
            self._comparing.end()

    def submitted(
        self, call: Call, request: InferenceRequest, answer: asyncio.Future[InferenceResponse]
    ) -> None:
        # None for a call that names a version, and for one that another version takes over.
        given = call.given
        if given is None:
            return
        mirror = self._mirrors.get(given.name)
        if mirror is not None and mirror.primary is given is call.model:
            mirror.offer(request, answer)

    def _thread(self) -> DaemonThread:
        if self._comparing is None:
            self._comparing = DaemonThread("comparing answers of shadows")
        return self._comparing
