"""Loads the versions that a followed model is to have, and unloads those that it had."""

from __future__ import annotations

import asyncio
import logging

from headrace.errors import Conflict, HeadraceError, InvalidModel
from headrace.repository.compatibility import differences
from headrace.repository.followed_model import FollowedModel
from headrace.repository.loading import may_pass
from headrace.repository.repository import ModelRepository
from headrace.rollouts.desired import named
from headrace.serving.served_model import ServedModel, State
from headrace.settings import ServerSettings

logger = logging.getLogger("headrace.repository")


class FollowedVersions:
    """Provides versions beside the one that answers, and ends those without a role."""

    def __init__(self, repository: ModelRepository, settings: ServerSettings) -> None:
        self._repository = repository
        self._is_careful = not settings.follow_incompatible
        # Seconds until another try to unload a version.
        self._pause = settings.follow_interval

    async def provided(
        self, model: FollowedModel, version: str, alone: bool = False
    ) -> ServedModel | None:
        """A version, loaded beside the one that answers; None if it is or is now rejected."""
        if version == model.loading and not alone:
            await model.loaded()
        if version in model.rejected:
            return None
        try:
            return await self._provide(model, version, alone)
        except HeadraceError as exc:
            model.failure = f"version {version}: {exc.message}"
            if not may_pass(exc):
                model.rejected.add(version)
            logger.error(
                "version %s gets no requests: %s", version, exc.message, extra={"model": model.name}
            )
            if model.awaited is not None:
                self._repository.give_up(model.awaited, exc)
            return None

    async def _provide(self, model: FollowedModel, version: str, alone: bool) -> ServedModel:
        """Load a version, if it is not there, and compare it with the one that answers.

        Raises:
            HeadraceError: it does not load, or callers would notice.
        """
        repository, name = self._repository, model.name
        if model.awaited is not None:
            repository.expect_again(model.awaited)
        model.listed.add(version)
        found = repository.known(name, version)
        if found is not None and found.state is State.READY:
            return found
        if found is not None:
            await repository.drop(name, version)
        new = await repository.add(model.followed.pinned(version, self._is_careful), alone)
        old = repository.known(name, model.version) if model.version else None
        if old is not None and self._is_careful:
            found_differences = differences(old.model_metadata, new.model_metadata)
            if found_differences:
                reason = (
                    f"not compatible with version {model.version}: {'; '.join(found_differences)}"
                )
                await repository.retire(new, reason)
                raise InvalidModel(f"{reason} (--follow-incompatible moves all the same)")
        return new

    def end_others(self, model: FollowedModel) -> None:
        """Unload the versions without a role in `keep` seconds, and forget those nobody names."""
        assert model.registered is not None, "the registry has answered"
        still_named = named(model.registered, model.followed)
        for version in model.listed - model.wanted.versions - {model.version}:
            served = self._repository.known(model.name, version)
            if served is None:
                model.listed.discard(version)
            elif served.state is State.READY and version not in model.ending:
                model.ending.add(version)
                model.spawn(self._end_later(model, served))
            elif served.state is State.UNAVAILABLE and version not in still_named:
                model.listed.discard(version)
                self._repository.forget(served)

    async def _end_later(self, model: FollowedModel, served: ServedModel) -> None:
        version = served.version
        await asyncio.sleep(model.followed.follow.keep)
        try:
            while version not in (model.version, *model.wanted.versions):
                try:
                    record = model.record
                    if record is not None and version and record.has_rolled_back(version):
                        await self._repository.retire(served, served.reason)
                    else:
                        await self._repository.drop(model.name, version)
                except Conflict:
                    # The whole model is being loaded or unloaded, which may take minutes.
                    await asyncio.sleep(self._pause)
                else:
                    break
        finally:
            model.ending.discard(version)
