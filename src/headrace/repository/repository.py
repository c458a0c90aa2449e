"""The model repository: every model this server knows, by name and version."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

from headrace.errors import Conflict, HeadraceError, InvalidModel, LoadKilled, NotFound, shorten
from headrace.executors.executor import Exhausted
from headrace.executors.retry import Retry
from headrace.repository.changes import WHOLE, Changes
from headrace.repository.loading import Loader
from headrace.serving.served_model import ServedModel, State
from headrace.settings import ModelSettings

logger = logging.getLogger("headrace.repository")

# How long abandoned loads may hold up the server's shutdown, in seconds.
LAST_LOADS = 5.0

Find = Callable[[str], list[ModelSettings]]
Versions = dict[str | None, ServedModel]


def unknown(name: str) -> NotFound:
    """The error for a model that is not there."""
    return NotFound(f"model '{shorten(name)}' not found")


def not_in_folder(name: str) -> NotFound:
    """The error for a model that is to be loaded, and is not there."""
    return NotFound(f"model '{shorten(name)}' not found in the served folder")


class ModelRepository:
    """Loads models side by side, finds them by name and version, and replaces them in one step.

    `find` reads from disk what should be served under a name now, one entry per version. It may
    block: it runs in a thread.
    """

    def __init__(self, loader: Loader, find: Find) -> None:
        self._loader = loader
        self._find = find
        self._models: dict[str, Versions] = {}
        # Derived from `_models` whenever it changes: the versions of each, the highest first.
        self._ordered: dict[str, list[ServedModel]] = {}
        self._sorted: list[ServedModel] = []
        self._changes = Changes()
        # By name: tasks that keep trying to load models that failed. Unlike changes, they are
        # cancelled when something else is requested for the model.
        self._trying: dict[str, asyncio.Task[None]] = {}
        self._attempted = asyncio.Event()
        # By name: the version for requests that name none, where it is not simply the highest.
        self._preferred: dict[str, ServedModel] = {}
        # Called with each model that has become ready; nothing depends on what they do.
        self.watchers: list[Callable[[ServedModel], None]] = []

    async def load_all(self, configured: list[ModelSettings]) -> None:
        """Load every model; one that fails shows its reason, stops no other, and is tried again."""
        names: dict[str, list[ServedModel]] = {}
        for settings in configured:
            names.setdefault(settings.name, []).append(self._add(settings))
        started = (self._begin(name, self._load_each(models)) for name, models in names.items())
        await asyncio.gather(*started)

    async def any_ready(self, patience: float) -> bool:
        """Whether a model is ready; waits for as long as that may change.

        Failed loads are tried again and again. They are waited for until `patience` seconds after
        the first failure, and for as long as the workers that load them are killed; those that
        had all their time are not.
        """
        while not any(model.state is State.READY for model in self.models()):
            wanted = [model for model in self.models() if model.wanted]
            if not wanted:
                return True
            wanted = [model for model in wanted if model.retry is None or not model.retry.exhausted]
            retries = [model.retry for model in wanted if model.retry is not None]
            ends = None
            # A try that is under way is not given up either.
            is_loading = any(model.state is State.LOADING for model in wanted)
            if not is_loading and not any(retry.killed for retry in retries):
                ends = max((retry.began for retry in retries), default=-math.inf) + patience
            self._attempted.clear()
            try:
                async with asyncio.timeout_at(ends):
                    await self._attempted.wait()
            except TimeoutError:
                return False
        return True

    def add_unloaded(self, configured: list[ModelSettings]) -> None:
        """Add models without loading them; `load` does that on request."""
        for settings in configured:
            model = self._add(settings)
            model.wanted = False
            model.become(State.UNAVAILABLE, "not loaded yet")

    async def load(self, name: str) -> None:
        """Read a model's settings again, load all its versions alongside the old ones, then switch.

        Returns when the old ones have answered their last request and are unloaded. A failure
        changes nothing for callers: the old ones stay. Continues even if the caller leaves.

        Raises:
            NotFound: no model of that name is on disk.
            Conflict: the model is already being loaded or unloaded.
            LoadFailed: with the reason.
        """
        await asyncio.shield(self._begin(name, self._replace(name)))

    async def described(self, name: str) -> list[ModelSettings]:
        """The versions of a model as they are described on disk now.

        Raises:
            LoadFailed: the description is wrong.
        """
        return await asyncio.to_thread(self._find, name)

    async def settled(self, name: str) -> None:
        """Wait until a model is not being loaded or unloaded."""
        await self._changes.settled(name)

    async def unload(self, name: str) -> None:
        """Stop accepting requests for a model, finish those it has, free it; it stays listed.

        Raises:
            NotFound: no model of that name is known.
            Conflict: the model is already being loaded or unloaded.
        """
        if name not in self._models:
            raise unknown(name)
        await asyncio.shield(self._begin(name, self._unload(name)))

    async def remove(self, name: str) -> None:
        """As `unload`, but the model is not listed any more."""
        await self.unload(name)
        self._put(name, {})

    def expect(self, settings: ModelSettings) -> ServedModel:
        """List a model whose version is not known yet as one that is loading."""
        return self._add(settings)

    def expect_again(self, model: ServedModel) -> None:
        """Return a model that was given up to those that are loading."""
        if model.state is State.UNAVAILABLE:
            model.become(State.LOADING)

    def give_up(self, model: ServedModel, error: HeadraceError) -> None:
        """Show why a model that was expected is not there; it may still come."""
        if model.state is State.LOADING:
            model.become(State.UNAVAILABLE)
        model.reason = error.message
        if isinstance(error, InvalidModel):
            model.retry = None
        else:
            model.retry = model.retry or Retry()
            model.retry.failed(error.message, error.__cause__)
        self._attempted.set()

    def versions_of(self, name: str) -> list[ServedModel]:
        """Every version of a model, in whatever state it is; none if the model is unknown."""
        return list(self._models.get(name, {}).values())

    def known(self, name: str, version: str | None) -> ServedModel | None:
        """Exactly that version of a model, in whatever state it is."""
        return self._models.get(name, {}).get(version)

    async def add(self, settings: ModelSettings, alone: bool = False) -> ServedModel:
        """Load one more version of a model; only requests that name it reach it.

        Several may be loaded at the same time. One that does not load stays listed with its
        reason, and is not tried again. With `alone`, it shares no worker with other models, which
        its death then leaves alone.

        Raises:
            Conflict: the version is already being loaded or unloaded, or the whole model is.
            LoadFailed: with the reason.
        """
        model = self._loader.admit(settings)
        model.wanted, model.alone = False, alone
        await self._begin(settings.name, self._add_version(model), settings.version)
        return model

    def prefer(self, model: ServedModel) -> None:
        """From now on, requests that name no version reach this one."""
        for each in self._models[model.name].values():
            each.wanted = each is model
        self._preferred[model.name] = model

    async def retire(self, model: ServedModel, reason: str) -> None:
        """Finish the requests of one version and free it; it stays listed with the reason.

        Continues even if the caller leaves.

        Raises:
            Conflict: the version is already being loaded or unloaded, or the whole model is.
        """
        model.wanted, model.retry = False, None
        if (preferred := self._preferred.get(model.name)) is not model:
            model.successor = preferred
        await asyncio.shield(self._begin(model.name, self._end([model], reason), model.version))

    async def drop(self, name: str, version: str | None) -> None:
        """As `retire`, but the version is not listed any more."""
        model = self.known(name, version)
        if model is not None:
            await self.retire(model, "replaced")
            self.forget(model)

    def forget(self, model: ServedModel) -> None:
        """Take a model that is not loaded off the list."""
        versions = self._models.get(model.name, {})
        self._put(model.name, {key: each for key, each in versions.items() if each is not model})
        self._attempted.set()

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
        """The default version of each model that is ready, the earliest known name first."""
        models = [self.get(name) for name, versions in self._models.items() if versions]
        return [model for model in models if model.state is State.READY]

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """The model of that name; without a version, the unversioned or the highest ready one.

        Raises:
            NotFound: no model of that name or version is known.
        """
        versions = self._models.get(name)
        if not versions:
            raise unknown(name)
        if version is None:
            return self._default(name)
        found = versions.get(version)
        if found is None:
            raise NotFound(f"model '{shorten(name)}' has no version '{shorten(version)}'")
        return found

    def _default(self, name: str) -> ServedModel:
        """The preferred version if it is ready, else the unversioned or the highest ready one."""
        preferred = self._preferred.get(name)
        if preferred is not None and preferred.state is State.READY:
            return preferred
        ordered = self._ordered[name]
        for model in ordered:
            if model.state is State.READY:
                return model
        return ordered[0]

    def versions(self, name: str) -> list[str]:
        """The versions of a model, oldest first."""
        served = sorted(self._models.get(name, {}).values(), key=_version_order)
        return [model.version for model in served if model.version is not None]

    def is_ready(self, model: ServedModel) -> bool:
        """Whether it is loaded and has a live worker."""
        return model.state is State.READY and self._loader.is_up(model)

    def trouble(self, model: ServedModel) -> str:
        """Why a model that is loaded is not ready."""
        return self._loader.trouble(model)

    async def close(self) -> None:
        """Stop all executors and remove what was downloaded."""
        # A change that ends may start trying, so the tries are cancelled last.
        await self._changes.cancel(LAST_LOADS)
        trying = list(self._trying.values())
        for task in trying:
            task.cancel()
        if trying:
            await asyncio.wait(trying, timeout=LAST_LOADS)
        await self._loader.close()

    def _begin(
        self, name: str, work: Coroutine[Any, Any, Any], version: str | None = WHOLE
    ) -> asyncio.Task[Any]:
        """Start a change of a model; see `Changes.begin`."""
        try:
            task = self._changes.begin(name, self._between_tries(name, work), version)
        except Conflict:
            work.close()
            raise
        # A task that is cancelled before it starts leaves the work unbegun.
        task.add_done_callback(lambda _: work.close())
        return task

    def _add(self, settings: ModelSettings) -> ServedModel:
        model = self._loader.admit(settings)
        versions = self._models.get(settings.name, {})
        self._put(settings.name, {**versions, settings.version: model})
        return model

    def _put(self, name: str, versions: Versions) -> None:
        self._models[name] = versions
        self._ordered[name] = sorted(versions.values(), key=_version_order, reverse=True)
        self._sorted = []

    async def _load_each(
        self, models: list[ServedModel], predecessors: Iterable[ServedModel] = ()
    ) -> list[HeadraceError]:
        loads = (self._load_twice(model, predecessors) for model in models)
        outcomes = await asyncio.gather(*loads, return_exceptions=True)
        return [outcome for outcome in outcomes if isinstance(outcome, HeadraceError)]

    async def _load_twice(self, model: ServedModel, predecessors: Iterable[ServedModel]) -> None:
        try:
            await self._attempt(model, predecessors)
        except (InvalidModel, Exhausted, LoadKilled):
            raise
        except HeadraceError:
            self._loader.begin_again(model)
            await self._attempt(model, predecessors)

    async def _attempt(self, model: ServedModel, predecessors: Iterable[ServedModel] = ()) -> None:
        """Load a model, and record whether to try again."""
        try:
            await self._loader.load(model, predecessors)
        except InvalidModel:
            model.retry = None
            raise
        except HeadraceError as exc:
            model.retry = model.retry or Retry()
            model.retry.failed(exc.message, exc.__cause__, isinstance(exc, Exhausted))
            raise
        else:
            model.retry = None
            for watch in self.watchers:
                watch(model)
        finally:
            self._attempted.set()

    async def _keep_trying(self, models: list[ServedModel]) -> None:
        """Keep repeating the loads that failed, until each model is ready or cannot be."""
        async with asyncio.TaskGroup() as tries:
            for model in models:
                tries.create_task(self._try(model))

    async def _try(self, model: ServedModel) -> None:
        while model.retry is not None:
            logger.warning("model '%s': next try in %.1f s", model.name, model.retry.pause)
            await asyncio.sleep(model.retry.pause)
            self._loader.begin_again(model)
            with suppress(HeadraceError):
                await self._attempt(model)

    async def _between_tries(self, name: str, work: Coroutine[Any, Any, Any]) -> Any:
        """Stop the tries for a change; afterwards, try again the wanted models that failed."""
        if (trying := self._trying.pop(name, None)) is not None:
            trying.cancel()
            await asyncio.wait([trying])
        try:
            return await work
        finally:
            self._attempted.set()
            models = self._models.get(name, {}).values()
            # The follower tries those that are followed.
            if failed := [
                model
                for model in models
                if model.wanted and model.retry is not None and model.settings.follow is None
            ]:
                self._trying[name] = asyncio.create_task(self._keep_trying(failed))

    async def _replace(self, name: str) -> None:
        found = await self.described(name)
        if not found:
            raise not_in_folder(name)
        old = self._models.get(name, {})
        new: Versions = {settings.version: self._loader.admit(settings) for settings in found}
        for version, model in new.items():
            if (before := old.get(version)) is not None:
                # From now on, so that no counter ever falls.
                model.metrics = before.metrics
            # Readiness does not wait for a model that is added while serving: it may fail.
            model.wanted = any(before.wanted for before in old.values())
        is_answering = any(model.state is State.READY for model in old.values())
        if not is_answering:
            self._put(name, new)
        predecessors = old.values() if is_answering else ()
        failures = await self._load_each(list(new.values()), predecessors)
        if failures:
            for model in new.values():
                if not model.wanted:
                    model.retry = None
            if is_answering:
                await self._end(list(new.values()), "another version of the model did not load")
                _set_reason(old, f"the last load failed: {failures[0].message}")
            raise failures[0]
        # Nothing else runs from here to the next await: no request sees half of the change.
        self._put(name, new)
        for version, model in new.items():
            model.wanted = True
            if (before := old.get(version)) is not None:
                before.successor = model
        await self._end(list(old.values()), "replaced")

    async def _add_version(self, model: ServedModel) -> None:
        versions = self._models.get(model.name, {})
        self._put(model.name, {**versions, model.version: model})
        try:
            await self._load_twice(model, ())
        finally:
            model.retry = None

    async def _unload(self, name: str) -> None:
        models = list(self._models[name].values())
        for model in models:
            model.wanted, model.retry = False, None
        await self._end(models, "unloaded")

    async def _end(self, models: list[ServedModel], reason: str) -> None:
        ending = [model for model in models if model.state is State.READY]
        for model in ending:
            model.become(State.UNLOADING)
        await asyncio.gather(*(self._loader.retire(model, reason) for model in ending))


def _set_reason(models: Versions, reason: str) -> None:
    for model in models.values():
        model.reason = reason


def _version_order(model: ServedModel) -> tuple[bool, bool, list[tuple[int, str]]]:
    """Unversioned last, so that it is the default; numbers in numeric order above words."""
    version = model.version or ""
    parts = re.split(r"([0-9]+)", version)
    natural = [(int(part), "") if part.isdecimal() else (0, part) for part in parts]
    return (model.version is None, version.isdecimal(), natural)
