"""Loads the shadows of followed models, and has requests mirrored to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from headrace.errors import HeadraceError, InvalidModel
from headrace.repository.compatibility import differences
from headrace.repository.loading import Loader
from headrace.rollouts.traffic import Traffic
from headrace.serving.served_model import ServedModel, State
from headrace.sources.follow import Followed, Shadow

logger = logging.getLogger("headrace.shadow")

# Seconds until a load is tried again that failed through no fault of the version.
PAUSE = 15.0


class Mirrors(Protocol):
    """Copies requests to shadows; see `headrace.dataplane.observers.shadow`."""

    def begin(
        self,
        primary: ServedModel,
        shadow: ServedModel,
        sample: float,
        tolerance: float,
        judge: Callable[[bool], None],
    ) -> None: ...

    def end(self, name: str) -> None: ...


class Shadowing:
    """Keeps the shadow of each followed model that has one.

    A shadow is loaded for itself, in the background, even if its version is loaded for callers as
    well: none of their requests ever waits for a copy. `loaded` has the latest shadow of each
    model, by name, with its reason if it could not be loaded. Nobody waits for any of this, and
    what fails here changes nothing else.
    """

    def __init__(self, loader: Loader, mirrors: Mirrors, takes_incompatible: bool) -> None:
        self._loader = loader
        self._mirrors = mirrors
        self._takes_incompatible = takes_incompatible
        self.loaded: dict[str, ServedModel] = {}
        self._wanted: dict[str, str | None] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def want(self, followed: Followed, traffic: Traffic, version: str | None) -> None:
        """From now on, the model is to have this version in its shadow, or none."""
        name, shadow = traffic.name, followed.follow.shadow
        if shadow is None:
            return
        self._wanted[name] = version if traffic.stable is not None else None
        task = self._tasks.get(name)
        if task is None or task.done():
            self._tasks[name] = asyncio.create_task(self._provide(followed, traffic, shadow))
        self._mirror(traffic, shadow)

    async def close(self) -> None:
        """Mirror nothing any more, and load nothing; the shadows themselves end with the server."""
        for name in self._wanted:
            self._mirrors.end(name)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _provide(self, followed: Followed, traffic: Traffic, shadow: Shadow) -> None:
        """Load what is wanted, and unload what is not any more."""
        name = traffic.name
        while self._version(name) != (version := self._wanted[name]):
            if name in self.loaded:
                self._stop_mirroring(traffic)
                await self._unload(self.loaded.pop(name))
            elif version is not None:
                with suppress(HeadraceError):
                    await self._load(followed, traffic, version)
                self._mirror(traffic, shadow)

    def _version(self, name: str) -> str | None:
        found = self.loaded.get(name)
        return found.version if found is not None else None

    async def _load(self, followed: Followed, traffic: Traffic, version: str) -> None:
        """Load a version; one that does not load stays in `loaded` until another one is wanted.

        Raises:
            HeadraceError: with the reason, which is logged.
        """
        settings = followed.pinned(version, not self._takes_incompatible)
        settings = replace(settings, in_background=True, instances=1)
        model = self.loaded[traffic.name] = self._loader.admit(settings)
        model.wanted = False
        try:
            await self._loader.load(model)
            await self._check(model, traffic.stable)
        except HeadraceError as error:
            logger.error(
                "version %s gets no copies of requests: %s", version, error.message,
                extra={"model": model.name, "version": version, "role": "shadow"},
            )  # fmt: skip
            # One that takes too long may have waited for a processor all the time.
            if not isinstance(error, InvalidModel):
                await asyncio.sleep(PAUSE)
                del self.loaded[traffic.name]
            raise

    async def _check(self, model: ServedModel, stable: ServedModel | None) -> None:
        if stable is None or self._takes_incompatible:
            return
        if found := differences(stable.model_metadata, model.model_metadata):
            reason = f"not compatible with version {stable.version}: {'; '.join(found)}"
            await self._unload(model, reason)
            raise InvalidModel(f"{reason} (--follow-incompatible loads it all the same)")

    async def _unload(self, model: ServedModel, reason: str = "it is no shadow any more") -> None:
        if model.state is State.READY:
            model.become(State.UNLOADING)
            await self._loader.retire(model, reason)

    def _mirror(self, traffic: Traffic, shadow: Shadow) -> None:
        """Mirror the requests of the stable version, if it and the shadow are there."""
        stable, model = traffic.stable, self.loaded.get(traffic.name)
        is_wanted = model is not None and model.version == self._wanted[traffic.name]
        if stable is None or model is None or not model.is_ready or not is_wanted:
            self._stop_mirroring(traffic)
            return
        if traffic.shadow is not model:
            logger.info(
                "version %s gets copies of %g %% of the requests", model.version,
                shadow.sample * 100,
                extra={"model": model.name, "version": model.version, "role": "shadow"},
            )  # fmt: skip
        traffic.shadow = model
        model.reason = f"shadow: copies of {shadow.sample * 100:g} % of the requests"
        self._mirrors.begin(
            stable, model, shadow.sample, shadow.tolerance, traffic.record_comparison
        )

    def _stop_mirroring(self, traffic: Traffic) -> None:
        traffic.shadow = None
        self._mirrors.end(traffic.name)
