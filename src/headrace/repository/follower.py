"""Follows the model registry: loads the versions that have a role beside the one that answers."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from headrace.errors import Conflict, HeadraceError, InvalidModel, NotFound, shorten
from headrace.repository.compatibility import differences
from headrace.repository.followed_model import FollowedModel
from headrace.repository.loading import may_pass
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
    loaded elsewhere, by what `want_shadow` calls.
    """

    def __init__(
        self,
        repository: ModelRepository,
        settings: ServerSettings,
        models: Iterable[ModelSettings],
        registry: Registry,
        clock: Callable[[], float] = time.time,
        want_shadow: WantShadow = lambda *_: None,
    ) -> None:
        self._repository = repository
        self._settings = settings
        self._registry = registry
        self._is_careful = not settings.follow_incompatible
        self._clock = clock
        self._want_shadow = want_shadow
        folder = home_folder() / "rollouts"
        self._records = RolloutRecords(folder, registry, settings.follow_tags)
        self._followed = {
            model.name: FollowedModel(Followed(model), self._breached) for model in models
        }
        self.traffic = {name: model.traffic for name, model in self._followed.items()}
        self._tasks: set[asyncio.Task[None]] = set()
        # By name: what writes the record of a model.
        self._writing: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Ask for every model once and load what is named; then keep asking until `close`.

        Canaries and shadows are loaded later, so that the server need not wait for them.
        """
        for model in self._followed.values():
            model.awaited = self._repository.expect(model.followed.settings)
            if model.followed.follow.canary is not None:
                model.record = self._records.read(model.followed)
        turns = (self._turn(model, only_stable=True) for model in self._followed.values())
        await asyncio.gather(*turns)
        for model in self._followed.values():
            follow = model.followed.follow
            if follow.canary is not None or follow.shadow is not None:
                model.poll.set()
            self._spawn(self._keep_asking(model))
        if self._followed:
            self._spawn(self._ask_for_all())

    def find(self, find: Callable[[str], list[ModelSettings]], name: str) -> list[ModelSettings]:
        """What `find` says of a model, at the version that is served."""
        model = self._followed.get(name)
        if model is None or model.version is None:
            return find(name)
        return [Followed(each).pinned(model.version, self._is_careful) for each in find(name)]

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
        for task in self._tasks:
            task.cancel()
        if writing := list(self._writing.values()):
            await asyncio.wait(writing, timeout=LAST_RECORDS)
            for task in writing:
                task.cancel()
        await self._registry.close()

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

        A decision about a canary does not wait for a registry that does not answer.
        """
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
        canary = model.traffic.canary
        if canary is not None and canary.version not in (wanted.canary, wanted.stable):
            # It ends before the next one is loaded, which is what the record may be about by now.
            canary.reason = ""
            model.traffic.end_canary()
        if wanted.is_over and model.record is not None:
            self._decide(model, model.record, Outcome.PROMOTED, "its last step is over")
        if wanted.stable != model.version:
            new = await self._provided(model, wanted.stable)
            original = registered.version(model.followed.stable)
            if new is None and model.version is None and original not in (None, wanted.stable):
                # It was promoted, and does not load any more.
                new = await self._provided(model, original or "")
            if new is not None:
                self._move(model, new)
        if not only_stable:
            await self._fill_roles(model)
        if not model.trouble:
            self._end_others(model)

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

    async def _provided(
        self, model: FollowedModel, version: str, alone: bool = False
    ) -> ServedModel | None:
        """A version, loaded beside the one that answers; None if it is or is now rejected."""
        if version in model.rejected:
            return None
        try:
            return await self._provide(model, version, alone)
        except HeadraceError as exc:
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

    async def _fill_roles(self, model: FollowedModel) -> None:
        """Load the canary and give it its requests; the shadow follows when it is ready."""
        traffic, version = model.traffic, model.version
        traffic.stable = self._repository.known(model.name, version) if version else None
        if traffic.stable is None or traffic.stable.state is not State.READY:
            # Nothing answers yet, or somebody has unloaded it.
            traffic.end_canary()
            self._want_shadow(model.followed, traffic, None)
            return
        canary = await self._loaded(model, model.wanted.canary)
        # Something may have been decided while it loaded.
        assert model.registered is not None, "the registry has answered"
        now = self._clock()
        model.wanted = desired(model.registered, model.followed, model.record, now)
        if canary is None or model.wanted.canary != canary.version:
            traffic.end_canary()
        else:
            self._start_canary(model, canary, now)
        self._want_shadow(model.followed, traffic, model.wanted.shadow)

    async def _loaded(self, model: FollowedModel, version: str | None) -> ServedModel | None:
        return None if version is None else await self._provided(model, version, alone=True)

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

    def _end_others(self, model: FollowedModel) -> None:
        """Unload the versions without a role in `keep` seconds, and forget those nobody names."""
        assert model.registered is not None, "the registry has answered"
        still_named = named(model.registered, model.followed)
        for version in model.listed - model.wanted.versions - {model.version}:
            served = self._repository.known(model.name, version)
            if served is None:
                model.listed.discard(version)
            elif served.state is State.READY and version not in model.ending:
                model.ending.add(version)
                self._spawn(self._end_later(model, served))
            elif served.state is State.UNAVAILABLE and version not in still_named:
                model.listed.discard(version)
                self._repository.forget(served)

    async def _end_later(self, model: FollowedModel, served: ServedModel) -> None:
        version = served.version or ""
        await asyncio.sleep(model.followed.follow.keep)
        try:
            while version not in (model.version, *model.wanted.versions):
                try:
                    if model.record is not None and model.record.has_rolled_back(version):
                        await self._repository.retire(served, served.reason)
                    else:
                        await self._repository.drop(model.name, version)
                except Conflict:
                    # Another version is being loaded, which may take minutes.
                    await asyncio.sleep(self._settings.follow_interval)
                else:
                    break
        finally:
            model.ending.discard(version)

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

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
