"""The model repository: every model this server knows, by name and version."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from headrace.errors import Conflict, HeadraceError, NotFound, shorten
from headrace.repository.loading import Loader
from headrace.repository.served import ServedModel, State
from headrace.settings import ModelSettings

Find = Callable[[str], list[ModelSettings]]
Versions = dict[str | None, ServedModel]


class ModelRepository:
    """Loads models side by side, finds them by name and version, and replaces them in one step.

    `find` reads from disk what is to be served under a name now, one entry per version. It may
    block: it runs in a thread.
    """

    def __init__(self, loader: Loader, find: Find) -> None:
        self._loader = loader
        self._find = find
        self._models: dict[str, Versions] = {}
        # Of `_models`; emptied with every change of it.
        self._sorted: list[ServedModel] = []
        self._busy: dict[str, asyncio.Task[Any]] = {}
        # Told of each model that has become ready; nothing depends on what they do.
        self.watchers: list[Callable[[ServedModel], None]] = []

    async def load_all(self, configured: list[ModelSettings]) -> None:
        """Load every model; one that fails shows its reason and stops no other."""
        names: dict[str, list[ServedModel]] = {}
        for settings in configured:
            names.setdefault(settings.name, []).append(self._add(settings))
        started = (self._begin(name, self._load_each(models)) for name, models in names.items())
        await asyncio.gather(*started)

    def add_unloaded(self, configured: list[ModelSettings]) -> None:
        """Know the models without loading them; `load` does that when it is asked."""
        for settings in configured:
            model = self._add(settings)
            model.wanted = False
            model.become(State.UNAVAILABLE, "not loaded yet")

    async def load(self, name: str) -> None:
        """Read a model's settings anew, load all its versions beside the old ones, then switch.

        Returns when the old ones have answered their last request and are unloaded. A failure
        changes nothing for callers: the old ones go on. Goes on when the caller leaves.

        Raises:
            NotFound: nothing of that name is on disk.
            Conflict: the same model is being loaded or unloaded already.
            LoadFailed: with the reason.
        """
        await asyncio.shield(self._begin(name, self._replace(name)))

    async def unload(self, name: str) -> None:
        """Stop taking requests for a model, finish those it has, free it; it stays known.

        Raises:
            NotFound: nothing of that name is known.
            Conflict: the same model is being loaded or unloaded already.
        """
        if name not in self._models:
            raise NotFound(f"model '{shorten(name)}' not found")
        await asyncio.shield(self._begin(name, self._unload(name)))

    def models(self) -> list[ServedModel]:
        """All models, sorted by name, oldest version first. Hot."""
        if not self._sorted:
            self._sorted = [
                model
                for _, versions in sorted(self._models.items())
                for model in sorted(versions.values(), key=_version_order)
            ]
        return self._sorted

    def answering(self) -> list[ServedModel]:
        """The default version of each model that is ready, the longest known name first."""
        models = [self.get(name) for name, versions in self._models.items() if versions]
        return [model for model in models if model.state is State.READY]

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """The model of that name; without a version the un-versioned or the highest loaded one.

        Raises:
            NotFound: nothing of that name or version is configured.
        """
        versions = self._models.get(name)
        if not versions:
            raise NotFound(f"model '{shorten(name)}' not found")
        if version is None:
            if len(versions) == 1:
                return next(iter(versions.values()))
            return max(versions.values(), key=_default_order)
        found = versions.get(version)
        if found is None:
            raise NotFound(f"model '{shorten(name)}' has no version '{shorten(version)}'")
        return found

    def versions(self, name: str) -> list[str]:
        """The versions of a model, oldest first."""
        served = sorted(self._models.get(name, {}).values(), key=_version_order)
        return [model.version for model in served if model.version is not None]

    def is_ready(self, model: ServedModel) -> bool:
        """Loaded, and with a live worker."""
        return model.state is State.READY and self._loader.is_up(model)

    async def close(self) -> None:
        """Stop all executors and remove what was downloaded."""
        for task in self._busy.values():
            task.cancel()
        await self._loader.close()

    def _begin(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run what changes a model, one such change per name at a time."""
        if name in self._busy:
            work.close()
            raise Conflict(f"model '{shorten(name)}' is being loaded or unloaded already")
        task = self._busy[name] = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._busy.pop(name))
        # Whoever asked may have left, and then nobody reads the outcome.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    def _add(self, settings: ModelSettings) -> ServedModel:
        model = self._loader.admit(settings)
        versions = self._models.get(settings.name, {})
        self._put(settings.name, {**versions, settings.version: model})
        return model

    def _put(self, name: str, versions: Versions) -> None:
        self._models[name] = versions
        self._sorted = []

    async def _load_each(
        self, models: list[ServedModel], beside: Iterable[ServedModel] = ()
    ) -> list[HeadraceError]:
        loads = (self._loader.load(model, beside) for model in models)
        outcomes = await asyncio.gather(*loads, return_exceptions=True)
        for model in models:
            if model.state is State.READY:
                for watch in self.watchers:
                    watch(model)
        return [outcome for outcome in outcomes if isinstance(outcome, HeadraceError)]

    async def _replace(self, name: str) -> None:
        found = await asyncio.to_thread(self._find, name)
        if not found:
            raise NotFound(f"model '{shorten(name)}' not found in the folder that is served")
        old = self._models.get(name, {})
        new: Versions = {settings.version: self._loader.admit(settings) for settings in found}
        for model in new.values():
            # Readiness does not wait for what was added while serving, and may fail.
            model.wanted = any(before.wanted for before in old.values())
        beside = any(model.state is State.READY for model in old.values())
        if not beside:
            self._put(name, new)
        failures = await self._load_each(list(new.values()), old.values() if beside else ())
        if failures:
            await self._end(list(new.values()), "another version of the model did not load")
            if beside:
                _note(old, f"the last load failed: {failures[0].message}")
            raise failures[0]
        # From here to the next await nothing else runs: no request sees half of the change.
        self._put(name, new)
        for version, model in new.items():
            model.wanted = True
            if (before := old.get(version)) is not None:
                before.successor, model.metrics = model, before.metrics
        await self._end(list(old.values()), "replaced")

    async def _unload(self, name: str) -> None:
        models = list(self._models[name].values())
        for model in models:
            model.wanted = False
        await self._end(models, "unloaded")

    async def _end(self, models: list[ServedModel], reason: str) -> None:
        ending = [model for model in models if model.state is State.READY]
        for model in ending:
            model.become(State.UNLOADING)
        await asyncio.gather(*(self._loader.retire(model, reason) for model in ending))


def _note(models: Versions, reason: str) -> None:
    for model in models.values():
        model.reason = reason


def _version_order(model: ServedModel) -> tuple[bool, bool, list[tuple[int, str]]]:
    """Un-versioned last, so that it is the default; numbers in numeric order above words."""
    version = model.version or ""
    parts = re.split(r"([0-9]+)", version)
    natural = [(int(part), "") if part.isdecimal() else (0, part) for part in parts]
    return (model.version is None, version.isdecimal(), natural)


def _default_order(model: ServedModel) -> tuple[bool, Any]:
    return (model.state is State.READY, _version_order(model))
