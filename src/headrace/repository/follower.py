"""Follows the model registry: a version that an alias moves to is loaded beside the old one."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

from headrace.errors import Conflict, HeadraceError, InvalidModel
from headrace.executors.executor import Exhausted, LoadOverdue
from headrace.repository.compatibility import differences
from headrace.repository.repository import ModelRepository
from headrace.serving.served_model import ServedModel, State
from headrace.settings import ModelSettings, ServerSettings
from headrace.sources.follow import Followed
from headrace.sources.model_registry import Registered, Registry

logger = logging.getLogger("headrace.repository")

# Models that ask in step would ask all at once.
JITTER = 0.2


class Follower:
    """Keeps each followed model at the version that the registry names.

    The version before stays loaded for `keep` seconds. A version that does not load, or that
    callers would notice, gets no request and is not tried again until the registry names another
    one. While the registry does not answer, everything stays as it is.
    """

    def __init__(
        self,
        repository: ModelRepository,
        settings: ServerSettings,
        models: Iterable[ModelSettings],
        registry: Registry,
    ) -> None:
        self._repository = repository
        self._settings = settings
        self._registry = registry
        self._followed = {model.name: _Model(Followed(model)) for model in models}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Ask for every model once and load what is named; then keep asking until `close`."""
        for model in self._followed.values():
            model.awaited = self._repository.expect(model.followed.settings)
        await asyncio.gather(*(self._turn(model) for model in self._followed.values()))
        for model in self._followed.values():
            self._spawn(self._keep_asking(model))

    def find(self, find: Callable[[str], list[ModelSettings]], name: str) -> list[ModelSettings]:
        """What `find` says of a model, at the version that is served."""
        model = self._followed.get(name)
        if model is None or model.version is None:
            return find(name)
        return [Followed(each).pinned(model.version) for each in find(name)]

    def poll_registered(self, name: str) -> list[str]:
        """Ask about a registered model soon; returns the names of the models that follow it.

        While one is being asked about, any number of calls lead to one more question.
        """
        polled = [model for model in self._followed.values() if model.followed.registered == name]
        for model in polled:
            model.poll.set()
        return [model.name for model in polled]

    async def close(self) -> None:
        """Stop asking."""
        for task in self._tasks:
            task.cancel()
        await self._registry.close()

    async def _keep_asking(self, model: _Model) -> None:
        interval = self._settings.follow_interval
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(interval * random.uniform(1 - JITTER, 1 + JITTER)):
                    await model.poll.wait()
            model.poll.clear()
            try:
                await self._turn(model)
            except Exception:
                # The next turn may be right, and without one the model would never move again.
                logger.exception("following failed; this is a bug", extra={"model": model.name})

    async def _turn(self, model: _Model) -> None:
        """Ask the registry, and move to what it names."""
        followed = model.followed
        try:
            registered = await self._registry.look(followed.registered)
            version = _named(registered, followed)
        except HeadraceError as exc:
            self._stay(model, exc)
            return
        if model.trouble:
            logger.info("the registry answers again", extra={"model": model.name})
            model.trouble = ""
            self._note(model)
        if version == model.held:
            return
        model.held = None
        if version == model.version:
            return
        try:
            await self._move(model, version)
        except HeadraceError as exc:
            if not _may_pass(exc):
                model.held = version
            logger.error(
                "version %s gets no requests: %s", version, exc.message, extra={"model": model.name}
            )
            if model.awaited is not None:
                self._repository.give_up(model.awaited, exc)

    async def _move(self, model: _Model, version: str) -> None:
        """Load a version beside the one that answers, and send it the requests from then on.

        Raises:
            HeadraceError: it does not load, or callers would notice.
        """
        repository, name = self._repository, model.name
        if model.awaited is not None:
            repository.expect_again(model.awaited)
        new = repository.known(name, version)
        if new is None or new.state is not State.READY:
            if new is not None:
                await repository.drop(name, version)
            new = await repository.add(model.followed.pinned(version))
        old = repository.known(name, model.version) if model.version else None
        if old is not None and not self._settings.follow_incompatible:
            found = differences(old.model_metadata, new.model_metadata)
            if found:
                reason = f"not compatible with version {model.version}: {'; '.join(found)}"
                await repository.retire(new, reason)
                raise InvalidModel(f"{reason} (--follow-incompatible moves all the same)")
        repository.prefer(new)
        logger.info(
            "moved to version %s%s", version,
            f" from {model.version}" if model.version else f", which {model.followed.stable} names",
            extra={"model": name},
        )  # fmt: skip
        before, model.version = model.version, version
        if model.awaited is not None:
            repository.forget(model.awaited)
            model.awaited = None
        if before is not None:
            self._spawn(self._end_later(model, before))

    async def _end_later(self, model: _Model, version: str) -> None:
        await asyncio.sleep(model.followed.follow.keep)
        while model.version != version:
            try:
                await self._repository.drop(model.name, version)
            except Conflict:
                # Another version is being loaded, which may take minutes.
                await asyncio.sleep(self._settings.follow_interval)
            else:
                break

    def _stay(self, model: _Model, error: HeadraceError) -> None:
        """Leave everything as it is, since the registry does not say what to serve."""
        if error.message != model.trouble:
            logger.warning("%s", error.message, extra={"model": model.name})
        model.trouble = error.message
        self._note(model)
        if model.awaited is not None:
            self._repository.give_up(model.awaited, error)

    def _note(self, model: _Model) -> None:
        """Show in the index that what is served may be stale."""
        served = self._repository.known(model.name, model.version) if model.version else None
        if served is not None and served.state is State.READY:
            served.reason = f"may be stale: {model.trouble}" if model.trouble else ""

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Model:
    """A followed model: the version that answers, and the one that is held back.

    `awaited` stands for it in the index until a version answers.
    """

    def __init__(self, followed: Followed) -> None:
        self.followed = followed
        self.version: str | None = None
        self.held: str | None = None
        self.trouble = ""
        self.awaited: ServedModel | None = None
        # Set when the registry is to be asked at once.
        self.poll = asyncio.Event()

    @property
    def name(self) -> str:
        return self.followed.settings.name


def _named(registered: Registered, followed: Followed) -> str:
    version = registered.version(followed.stable)
    if version is None:
        known = ", ".join(f"@{alias}" for alias in sorted(registered.aliases)) or "none"
        raise InvalidModel(
            f"registered model '{followed.registered}' has no {followed.stable}; its aliases: "
            f"{known}"
        )
    return version


def _may_pass(error: HeadraceError) -> bool:
    """Whether a move failed for a reason outside of the version, which is then tried again."""
    return isinstance(error, (Exhausted, Conflict)) and not isinstance(error, LoadOverdue)
