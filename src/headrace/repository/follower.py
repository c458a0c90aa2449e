"""Follows the model registry: loads the versions that have a role beside the one that answers."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

from headrace.errors import (
    ConfigurationError,
    Conflict,
    HeadraceError,
    InvalidModel,
    LoadFailed,
    NotFound,
    shorten,
)
from headrace.repository.followed_model import FollowedModel
from headrace.repository.followed_versions import FollowedVersions
from headrace.repository.repository import ModelRepository
from headrace.repository.rollout_records import RolloutRecords
from headrace.repository.rollout_status import rollout_status, why_none
from headrace.rollouts.desired import Desired, candidate, desired, named
from headrace.rollouts.record import Outcome, Record
from headrace.rollouts.traffic import Traffic
from headrace.serving.served_model import ServedModel, State
from headrace.settings import ModelSettings, ServerSettings, home_folder
from headrace.sources.follow import Followed
from headrace.sources.model_registry import Registered, Registry

logger = logging.getLogger("headrace.repository")

# Servers that ask in step would ask all at once.
JITTER = 0.2
# Seconds for writing the last records when the server stops.
LAST_RECORDS = 5.0
# Seconds between two questions about one model.
LEAST_PAUSE = 1.0

# Says which version the shadow of a model is to have, if any; see `Shadowing.want`.
WantShadow = Callable[[Followed, Traffic, "str | None"], None]


class Follower:
    """Keeps the versions of each followed model as the registry, the settings and the clock say.

    The previous version stays loaded for `keep` seconds. A version that does not load, or that
    callers would notice, gets no request and is not tried again until the registry names another
    one. While the registry does not answer, everything stays as it is.

    `traffic` has one entry for each followed model, for the request path to read. Shadows are
    loaded elsewhere, by what `want_shadow` calls. `divides` is called for each model whose
    settings have a canary.
    """

    def __init__(
        self,
        repository: ModelRepository,
        settings: ServerSettings,
        models: Iterable[ModelSettings],
        registry: Registry,
        clock: Callable[[], float] = time.time,
        want_shadow: WantShadow = lambda *_: None,
        divides: Callable[[], None] = lambda: None,
    ) -> None:
        self._repository = repository
        self._settings = settings
        self._registry = registry
        self._versions = FollowedVersions(repository, settings)
        self._clock = clock
        self._want_shadow = want_shadow
        self._divides = divides
        folder = home_folder() / "rollouts"
        self._records = RolloutRecords(folder, registry, settings.follow_tags)
        self._followed: dict[str, FollowedModel] = {}
        self.traffic: dict[str, Traffic] = {}
        for each in models:
            self._follow(FollowedModel(Followed(each), self._breached))
        self._asking: asyncio.Task[None] | None = None
        # By name: what writes the record of a model.
        self._writing: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Ask for every model once and load what is named; then keep asking until `close`.

        Canaries and shadows are loaded later, so that the server need not wait for them.
        """
        models = list(self._followed.values())
        for model in models:
            model.awaited = self._repository.expect(model.followed.settings)
        await asyncio.gather(*(self._turn(model, only_stable=True) for model in models))
        for model in models:
            self._keep_up(model)

    def add_unloaded(self) -> None:
        """List every model without loading it; `load` does that on request, and follows it."""
        listed = [model.followed.settings for model in self._followed.values()]
        self._followed.clear()
        self.traffic.clear()
        self._repository.add_unloaded(listed)

    def follows(self, name: str) -> bool:
        """Whether a model is followed now."""
        return name in self._followed

    async def load(self, settings: ModelSettings) -> None:
        """Follow a model as these settings say; returns when the version named can answer.

        Versions that did not load are tried again. A failure changes nothing for callers, and a
        model that was not followed before is not followed after it.

        Raises:
            LoadFailed: with the reason. An InvalidModel if it cannot be followed at all.
        """
        name, before = settings.name, self._followed.get(settings.name)
        model = await self._described(settings, before)
        if before is None:
            await self._repository.settled(name)
        self._expect(model)
        await self._turn(model, only_stable=True)
        stable = model.wanted.stable
        served = self._repository.known(name, stable) if stable is not None else None
        if stable != model.version or served is None or served.state is not State.READY:
            if before is None:
                await self.leave(name)
            raise LoadFailed(model.trouble or model.failure or "it was unloaded meanwhile")
        if model is not before:
            self._keep_up(model)
        model.poll.set()

    async def leave(self, name: str) -> None:
        """Stop following a model; its versions stay as they are, except for one that is loading."""
        model = self._followed.pop(name)
        del self.traffic[name]
        await self._stop(model)
        await self._repository.settled(name)

    def poll_registered(self, name: str) -> list[str]:
        """Ask about a registered model soon; returns the names of the models that follow it.

        While one is being asked about, any number of calls lead to one more question.
        """
        polled = [model for model in self._followed.values() if model.followed.registered == name]
        for model in polled:
            model.poll.set()
        return [model.name for model in polled]

    def rollout(self, name: str) -> dict[str, Any]:
        """The state of a model's rollout; see `rollout_status`.

        Raises:
            NotFound: no model of that name is followed.
        """
        model, version, wanted = self._model(name), None, Desired(None)
        if model.registered is not None:
            version = candidate(model.registered, model.followed)
            wanted = desired(model.registered, model.followed, model.record, self._clock())
        served = self._repository.known(name, version) if version is not None else None
        is_loading = version in wanted.versions and version not in model.rejected
        why = why_none(model.traffic, model.followed, version, served, is_loading)
        return {**rollout_status(model.traffic, wanted, model.record), "no_canary": why}

    def promote(self, name: str, reason: str) -> None:
        """Give the canary all requests, until the registry names another stable version.

        Raises:
            NotFound: no model of that name is followed.
            Conflict: it has no canary that gets requests.
        """
        model = self._model(name)
        self._decide(model, self._canary_record(model), Outcome.PROMOTED, reason)
        logger.info("version %s is promoted", model.wanted.canary, extra={"model": name})

    def hold(self, name: str, reason: str) -> None:
        """Leave the canary the part of the requests that it has now.

        Raises:
            NotFound, Conflict: as `promote`.
        """
        model = self._model(name)
        self._decide(model, self._canary_record(model), Outcome.HELD, reason)
        logger.info(
            "version %s is held at %g %% of the requests", model.wanted.canary,
            model.traffic.percent, extra={"model": name},
        )  # fmt: skip

    def roll_back(self, name: str, reason: str) -> None:
        """Give the stable version all requests; also after the canary was promoted.

        Raises:
            NotFound: no model of that name is followed.
            Conflict: it has no canary, not even one that is being loaded.
        """
        model = self._model(name)
        record, wanted = model.record, model.wanted
        is_promoted = record is not None and record.canary == model.version != record.stable
        if not is_promoted and (record is None or record.canary != wanted.canary):
            if wanted.canary is None or model.version is None:
                raise Conflict(f"model '{shorten(name)}' has no canary")
            # It is being loaded.
            record = Record(model.version, wanted.canary, self._clock())
        assert record is not None, "there is one, or it was made"
        model.traffic.roll_back()
        self._decide(model, record, Outcome.ROLLED_BACK, reason)
        self._report_rollback(model)

    async def close(self) -> None:
        """Stop asking, and keep what is to be remembered."""
        if self._asking is not None:
            self._asking.cancel()
        await asyncio.gather(*(model.stop() for model in self._followed.values()))
        if writing := list(self._writing.values()):
            await asyncio.wait(writing, timeout=LAST_RECORDS)
            for task in writing:
                task.cancel()
        await self._registry.close()

    def _follow(self, model: FollowedModel) -> None:
        self._followed[model.name] = model
        self.traffic[model.name] = model.traffic
        if model.followed.follow.canary is not None:
            self._divides()
            model.record = self._records.read(model.followed)

    async def _described(
        self, settings: ModelSettings, before: FollowedModel | None
    ) -> FollowedModel:
        """The model that these settings describe: the one from before, if they are the same."""
        if before is not None and before.followed.settings == settings:
            before.rejected.clear()
            return before
        try:
            model = FollowedModel(Followed(settings), self._breached)
        except ConfigurationError as exc:
            raise InvalidModel(exc.message) from exc
        if before is not None:
            # So that no counter ever falls.
            model.traffic.failures = before.traffic.failures
            model.traffic.rollbacks = before.traffic.rollbacks
            model.version = before.version
            await self._stop(before)
        self._follow(model)
        return model

    def _expect(self, model: FollowedModel) -> None:
        """Show that a model is being loaded, if no version of it answers, and what is there."""
        settings = model.followed.settings
        versions = self._repository.versions_of(model.name)
        if not any(each.state is State.READY for each in versions):
            found = self._repository.known(model.name, settings.version)
            model.awaited = found or self._repository.expect(settings)
            model.awaited.wanted = False
            self._repository.expect_again(model.awaited)
        model.listed |= {each.version for each in versions if each is not model.awaited}

    def _keep_up(self, model: FollowedModel) -> None:
        """Keep asking for a model whose stable version was looked for."""
        follow = model.followed.follow
        model.poll.clear()
        if follow.canary is not None or follow.shadow is not None:
            model.poll.set()
        model.spawn(self._keep_asking(model))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_for_all())

    async def _stop(self, model: FollowedModel) -> None:
        """Stop keeping up with a model; its versions stay as they are."""
        await model.stop()
        model.traffic.stable = None
        model.traffic.end_canary()
        self._want_shadow(model.followed, model.traffic, None)
        if model.awaited is not None:
            model.awaited.retry = None

    async def _ask_for_all(self) -> None:
        """Let all models ask at once, which is one call; other servers ask at other times."""
        interval = self._settings.follow_interval
        while True:
            await asyncio.sleep(interval * random.uniform(1 - JITTER, 1 + JITTER))
            for model in self._followed.values():
                model.poll.set()

    async def _keep_asking(self, model: FollowedModel) -> None:
        while True:
            await model.poll.wait()
            model.poll.clear()
            try:
                await self._turn(model)
            except Exception:
                # The next turn may be right, and without one the model would never move again.
                logger.exception("following failed; this is a bug", extra={"model": model.name})
            # However many webhooks arrive.
            await asyncio.sleep(min(LEAST_PAUSE, self._settings.follow_interval))

    async def _turn(self, model: FollowedModel, only_stable: bool = False) -> None:
        """Ask the registry, and move to what it names.

        A decision about a canary does not wait for a registry that does not answer. Canaries are
        loaded beside everything else.
        """
        async with model.turn:
            await self._follow_registry(model, only_stable)

    async def _follow_registry(self, model: FollowedModel, only_stable: bool) -> None:
        try:
            registered = await self._registry.look(model.followed.registered)
            self._hear_others(model, registered)
            wanted = desired(registered, model.followed, model.record, self._clock())
            if wanted.stable is None:
                raise registered.without(model.followed.registered, model.followed.stable)
        except HeadraceError as exc:
            self._stay(model, exc)
            if model.registered is None or not model.is_decided:
                return
            registered = model.registered
            wanted = desired(registered, model.followed, model.record, self._clock())
        else:
            self._answers_again(model)
        assert wanted.stable is not None, "the registry has named one"
        model.registered, model.wanted = registered, wanted
        model.rejected &= named(registered, model.followed)
        if model.loading not in wanted.versions:
            await model.loaded(give_up=True)
        canary = model.traffic.canary
        if canary is not None and canary.version not in (wanted.canary, wanted.stable):
            # It ends before the next one is loaded, which is what the record may be about by now.
            canary.reason = ""
            model.traffic.end_canary()
        if wanted.is_over and model.record is not None:
            self._decide(model, model.record, Outcome.PROMOTED, "its last step is over")
        if wanted.stable != model.version:
            new = await self._versions.provided(model, wanted.stable)
            original = registered.version(model.followed.stable)
            if new is None and model.version is None and original not in (None, wanted.stable):
                # It was promoted, and does not load any more.
                new = await self._versions.provided(model, original or "")
            if new is not None:
                self._move(model, new)
        if not only_stable:
            self._fill_roles(model)
        if not model.trouble:
            self._versions.end_others(model)

    def _hear_others(self, model: FollowedModel, registered: Registered) -> None:
        """Take over what other servers have decided, or let them know."""
        before, followed = model.record, model.followed
        model.record = self._records.agreed(before, followed, registered)
        if model.record != before and model.record is not None:
            self._remember(model, model.record)
            if model.record.outcome is Outcome.ROLLED_BACK:
                if model.traffic.canary is not None:
                    model.traffic.roll_back()
                self._report_rollback(model)
        elif not self._records.is_kept(before, followed, registered):
            assert before is not None, "there is one to be kept"
            self._remember(model, before)

    def _move(self, model: FollowedModel, new: ServedModel) -> None:
        """Send a version the requests from now on."""
        before, version = model.version, new.version
        self._repository.prefer(new)
        if model.traffic.canary is new:
            model.traffic.end_canary()
        model.version, model.traffic.stable = version, new
        self._note(model)
        logger.info(
            "moved to version %s%s", version,
            f" from {before}" if before else f", which {model.followed.stable} names",
            extra={"model": model.name},
        )  # fmt: skip
        if model.awaited is not None:
            self._repository.forget(model.awaited)
            model.awaited = None

    def _fill_roles(self, model: FollowedModel) -> None:
        """Give the canary its requests, or begin to load it; and have the shadow loaded."""
        traffic, version = model.traffic, model.version
        traffic.stable = self._repository.known(model.name, version) if version else None
        if traffic.stable is None or traffic.stable.state is not State.READY:
            # Nothing answers yet, or somebody has unloaded it.
            traffic.end_canary()
            self._want_shadow(model.followed, traffic, None)
            return
        assert model.registered is not None, "the registry has answered"
        now = self._clock()
        model.wanted = desired(model.registered, model.followed, model.record, now)
        canary = self._loaded(model, model.wanted.canary)
        if canary is None:
            traffic.end_canary()
        else:
            self._start_canary(model, canary, now)
        self._want_shadow(model.followed, traffic, model.wanted.shadow)

    def _loaded(self, model: FollowedModel, version: str | None) -> ServedModel | None:
        """A canary, if it is loaded; if not, its load begins, and fills the roles when it ends."""
        if version is None or version in model.rejected or model.loading is not None:
            return None
        found = self._repository.known(model.name, version)
        if found is not None and found.state is State.READY:
            return found
        model.load(version, self._load_canary(model, version))
        return None

    async def _load_canary(self, model: FollowedModel, version: str) -> None:
        if await self._versions.provided(model, version, alone=True) is not None:
            # Something may have been decided while it loaded.
            model.loading = None
            self._fill_roles(model)

    def _start_canary(self, model: FollowedModel, canary: ServedModel, now: float) -> None:
        """Give the canary, which is loaded, its part of the requests."""
        wanted, record, traffic = model.wanted, model.record, model.traffic
        stable, version = model.version or "", canary.version or ""
        if record is None or record.canary != version:
            self._remember(model, Record(stable, version, now))
            logger.info("the rollout of version %s begins", version, extra={"model": model.name})
        elif record.stable != stable:
            # The registry has named another stable version meanwhile.
            self._remember(model, record.instead_of(stable))
        if traffic.canary is not canary or traffic.percent != wanted.percent:
            logger.info(
                "version %s gets %g %% of the requests", version, wanted.percent,
                extra={"model": model.name},
            )  # fmt: skip
        traffic.start_canary(canary, wanted.percent, wanted.step)
        canary.reason = f"canary: {wanted.percent:g} % of the requests"

    def _model(self, name: str) -> FollowedModel:
        model = self._followed.get(name)
        if model is None:
            raise NotFound(f"model '{shorten(name)}' is not followed")
        return model

    def _canary_record(self, model: FollowedModel) -> Record:
        """The record of the canary that gets requests now."""
        record, canary = model.record, model.traffic.canary
        if record is None or canary is None:
            raise Conflict(f"model '{shorten(model.name)}' has no canary that gets requests")
        return record

    def _breached(self, model: FollowedModel, reason: str) -> None:
        """A rule has ended the canary, which gets no more requests."""
        assert model.record is not None, "it has begun"
        self._decide(model, model.record, Outcome.ROLLED_BACK, reason)
        self._report_rollback(model)

    def _decide(self, model: FollowedModel, record: Record, outcome: Outcome, reason: str) -> None:
        """Remember a decision; the next turn, which is at once, does what follows from it."""
        self._remember(model, record.decided(outcome, self._clock(), reason, model.traffic.percent))
        model.poll.set()

    def _report_rollback(self, model: FollowedModel) -> None:
        assert model.record is not None, "it was just decided"
        version, reason = model.record.canary, model.record.reason
        logger.error("version %s is rolled back: %s", version, reason, extra={"model": model.name})
        served = self._repository.known(model.name, version)
        if served is not None and served.state is State.READY:
            served.reason = f"rolled back: {reason}"

    def _remember(self, model: FollowedModel, record: Record) -> None:
        model.record = record
        if model.name not in self._writing:
            self._writing[model.name] = asyncio.create_task(self._keep_record(model))

    async def _keep_record(self, model: FollowedModel) -> None:
        """Keep the record, and after that the latest of those that there are meanwhile."""
        kept = None
        try:
            while model.record is not None and model.record is not kept:
                kept = model.record
                await self._records.keep(model.followed, kept)
        finally:
            del self._writing[model.name]

    def _stay(self, model: FollowedModel, error: HeadraceError) -> None:
        """Leave everything as it is, since the registry does not say what to serve."""
        if error.message != model.trouble:
            logger.warning("%s", error.message, extra={"model": model.name})
        model.trouble = error.message
        self._note(model)
        if model.awaited is not None:
            self._repository.give_up(model.awaited, error)

    def _answers_again(self, model: FollowedModel) -> None:
        if model.trouble:
            logger.info("the registry answers again", extra={"model": model.name})
            model.trouble = ""
            self._note(model)

    def _note(self, model: FollowedModel) -> None:
        """Show in the index that what is served may be stale."""
        served = self._repository.known(model.name, model.version) if model.version else None
        if served is not None and served.state is State.READY:
            served.reason = f"may be stale: {model.trouble}" if model.trouble else ""
