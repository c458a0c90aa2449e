"""A slot for one worker: its current process, and the models that belong in it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from headrace.errors import HeadraceError, LoadFailed, LoadKilled
from headrace.executors.executor import STOP_GRACE, LoadOverdue, WorkerLost
from headrace.executors.memory import has_room_beside
from headrace.executors.process import Environment, WorkerProcess
from headrace.executors.retiring import Retiring, first_of
from headrace.executors.retry import Retry, pause_after
from headrace.protocol.messages import ModelMetadata
from headrace.settings import ModelSettings
from headrace.worker.frames import Kind

logger = logging.getLogger("headrace.executors")

FIRST_PAUSE = 0.05
# A worker that had loaded a model, or lived this long, restarts after the shortest pause.
STEADY = 10.0
# The models of a worker load one after the other, so that a death can be traced to one of them.
# A load that takes longer than this no longer holds up the next one.
LONG_LOAD = 10.0
# Requests wait while a model comes back from fewer deaths in a row than this; then they fail.
PATIENT_DEATHS = 5
# After this many, a model is tried in a worker of its own before it may end one that it shares.
DEATHS_BEFORE_TRIAL = 2

# Loads a model in a worker that holds nothing else; raises `LoadFailed`, from `WorkerLost` if
# that worker ended.
Trial = Callable[[str, ModelSettings], Awaitable[None]]


class WorkerSlot:
    """Keeps one worker alive, and its models loaded.

    A worker that dies is restarted and loads its models again. One in which a model hangs answers
    for the others until its replacement has loaded them. Failed loads are tried again for as
    long as the model is wanted. `changed` is notified when a worker is up, and when a model can
    answer or has failed.
    """

    def __init__(
        self,
        environment: Environment,
        load_timeout: float,
        changed: asyncio.Condition,
        trial: Trial,
    ) -> None:
        self._environment = environment
        self._changed = changed
        self._trial = trial
        self._turn = asyncio.Lock()
        self._returning: dict[str, asyncio.Task[None]] = {}
        self._supervisor: asyncio.Task[None] | None = None
        self.load_timeout = load_timeout
        self.process: WorkerProcess | None = None
        self.retiring: Retiring | None = None
        self._relieved = asyncio.Event()
        self.orders: dict[str, ModelSettings] = {}
        # Models that are being loaded for the first time, so that others go elsewhere.
        self.reserved: set[str] = set()
        self.loaded: set[str] = set()
        self.retries: dict[str, Retry] = {}
        self.restarts = 0

    @property
    def is_up(self) -> bool:
        """Whether there is a process that takes calls."""
        return self.process is not None and not self.process.channel.is_lost

    @property
    def size(self) -> int:
        """How many models are here, or on their way."""
        return len(self.orders.keys() | self.reserved)

    def holds(self, key: str) -> bool:
        """Whether a model could answer here now."""
        return self._has_loaded(key) or (self.retiring is not None and self.retiring.holds(key))

    def _has_loaded(self, key: str) -> bool:
        return self.is_up and key in self.loaded

    def refusal(self, key: str) -> str:
        """Why requests should not wait for a model to come back here; empty if they should."""
        retry = self.retries.get(key)
        if retry is None or retry.failures == 1:
            return ""
        patient = retry.ended_worker and retry.failures < PATIENT_DEATHS
        return "" if patient else retry.reason

    async def load(self, key: str, settings: ModelSettings) -> ModelMetadata:
        """Load a model for the first time.

        Raises:
            LoadFailed: with the reason. Its cause is `WorkerLost` when the worker died. It is
                `LoadKilled` if something outside ended that.
            LoadOverdue: it took too long, and may still be running in the worker.
        """
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise())
        try:
            metadata = await self._load(key, settings)
        except WorkerLost as death:
            failure = LoadKilled if death.killed else LoadFailed
            raise failure(f"model '{settings.name}': {death.message}") from death
        except TimeoutError:
            overdue = f"model '{settings.name}' did not load within {self.load_timeout:g} s"
            if self.process is not None:
                # Otherwise every load that comes to this worker would take as long.
                await self.process.end_if_stuck(overdue)
            raise LoadOverdue(f"{overdue} (--load-timeout)") from None
        self.orders[key] = settings
        return metadata

    async def unload(self, key: str) -> None:
        """Forget a model. Unknown keys are fine."""
        self.orders.pop(key, None)
        self.retries.pop(key, None)
        if self.retiring is not None:
            self.retiring.keys.discard(key)
            self._check_replaced()
        if key in self.loaded and self.process is not None:
            self.loaded.discard(key)
            process = self.process
            try:
                answer = process.channel.request(Kind.UNLOAD, {"model": key})
                await asyncio.wait_for(answer, STOP_GRACE)
            except TimeoutError:
                overdue = f"unloading {key} takes more than {STOP_GRACE:g} s"
                logger.warning("%s", overdue)
                await process.end_if_stuck(overdue)
            except HeadraceError as exc:
                logger.warning("unloading %s failed: %s", key, exc)

    def forget(self, key: str) -> None:
        """Have the worker drop a model when its abandoned load ends after all."""
        if self.process is not None and self.is_up:
            answer = self.process.channel.request(Kind.UNLOAD, {"model": key})
            # The answer comes when the load ends, which may be never.
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def stop(self) -> None:
        """Stop the worker for good."""
        tasks = [*self._returning.values()]
        if self._supervisor is not None:
            tasks.append(self._supervisor)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self.retiring is not None:
            await self.retiring.stop()
        if self.process is not None:
            await self.process.stop(STOP_GRACE)

    def uses(self, process: WorkerProcess) -> bool:
        """Whether this process is the slot's worker, or the one that it replaces."""
        return process is self.process or (
            self.retiring is not None and process is self.retiring.process
        )

    def overrun(self, process: WorkerProcess, key: str, why: str) -> None:
        """Get rid of a call that hangs in a worker of this slot, without disturbing other models.

        A fresh worker comes up beside it, and the worker ends when that has loaded all models. It
        ends at once if it holds no other model, if there are two workers already, or if memory is
        short.
        """
        reason = WorkerLost(why, True)
        retiring = self.retiring
        if retiring is not None and process is retiring.process:
            retiring.give_up(key, reason)
        elif process is not self.process or retiring is not None or not self.loaded - {key}:
            process.kill(reason)
        elif not has_room_beside(process.pid):
            process.kill(WorkerLost(f"{why}, and memory is short for a second worker", True))
        else:
            logger.error(
                "%s; its worker goes on with its other models until a fresh one has loaded them",
                *(why,),
                extra={"pid": process.pid},
            )
            self.retiring = Retiring(process, self.loaded - {key}, self._on_retired)
            self.retiring.give_up(key, reason)
            self.process = None
            self.loaded.clear()
            self._relieved.set()

    def _on_retired(self, retiring: Retiring) -> None:
        if self.retiring is retiring:
            self.retiring = None

    async def _up(self) -> WorkerProcess:
        """The worker, as soon as there is one."""
        # Not `wait_for`, which in Python 3.11 logs what it cancels as an error.
        async with asyncio.timeout(self.load_timeout), self._changed:
            await self._changed.wait_for(lambda: self.is_up)
        assert self.process is not None, "waited for just above"
        return self.process

    async def _load(self, key: str, settings: ModelSettings) -> ModelMetadata:
        """Load a model when its turn has come.

        Raises:
            WorkerLost: the worker died while it loaded this model.
            TimeoutError: it took too long, or no worker came up in time.
            HeadraceError: why it did not load.
        """
        order = {"model": key, "settings": settings.to_dict()}
        while True:
            process, answer, ends = await self._begin_load(order)
            try:
                async with asyncio.timeout_at(ends):
                    metadata = ModelMetadata.from_dict(await answer)
            except WorkerLost:
                raise await process.death() from None
            async with self._changed:
                # It may have died right after it answered.
                if process is self.process and self.is_up:
                    self.loaded.add(key)
                    self._check_replaced()
                    self._changed.notify_all()
                    return metadata
            if process.channel.is_lost:
                raise await process.death()
            # A fresh worker replaces this one, and needs the model too.

    async def _begin_load(
        self, order: dict[str, Any]
    ) -> tuple[WorkerProcess, asyncio.Future[Any], float]:
        """Ask the worker for a load in its turn: the worker, its answer, and when that is due."""
        async with self._turn:
            # Only now: a neighbour's load may just have ended the last worker.
            process = await self._up()
            answer = process.channel.request(Kind.LOAD, order)
            ends = asyncio.get_running_loop().time() + self.load_timeout
            try:
                await asyncio.wait([answer], timeout=min(LONG_LOAD, self.load_timeout))
            except asyncio.CancelledError:
                answer.cancel()
                raise
        return process, answer, ends

    def _check_replaced(self) -> None:
        """Let a retiring worker go if every model has been loaded in the one that replaces it."""
        if self.retiring is not None and self.is_up and self.orders.keys() <= self.loaded:
            self.retiring.replaced.set()

    async def _supervise(self) -> None:
        """Keep a worker running: start it, wait for its death, bring its models back, repeat."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            failures += 1
            try:
                process = self.process = await WorkerProcess.spawn(self._environment)
            except OSError as exc:
                logger.error("no worker could be started: %s", exc)
                await asyncio.sleep(pause_after(failures, FIRST_PAUSE))
                continue
            async with self._changed:
                self._changed.notify_all()
            await first_of(process.exited, self._relieved)
            # Neither a worker that was of use nor a kill from outside is a reason to wait longer.
            if self.loaded or process.was_killed or loop.time() - started > STEADY:
                failures = 1
            self.process = None
            self.loaded.clear()
            self.restarts += 1
            self._bring_back()
            if self._relieved.is_set():
                self._relieved.clear()
                failures = 0
                continue
            if self.retiring is not None and not (process.ended and process.ended.blameless):
                self.retiring.end("the replacement of the worker died, possibly for lack of memory")
            pause = pause_after(failures, FIRST_PAUSE)
            fields = {"pid": process.pid}
            logger.error("worker %s, restarting in %.2f s", process.fate, pause, extra=fields)
            await asyncio.sleep(pause)

    def _bring_back(self) -> None:
        """Bring back every model that is not on its way already; first those nobody answers for."""
        missing = [
            key for key in self.orders if (task := self._returning.get(key)) is None or task.done()
        ]
        for key in sorted(missing, key=self.holds):
            task = self._returning[key] = asyncio.create_task(self._come_back(key))
            task.add_done_callback(partial(self._on_return, key))

    def _on_return(self, key: str, task: asyncio.Task[None]) -> None:
        if self._returning.get(key) is task:
            del self._returning[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a model did not come back; this is a bug", exc_info=error)

    async def _come_back(self, key: str) -> None:
        """Load a model again, and keep trying for as long as it is wanted."""
        while (settings := self.orders.get(key)) is not None and not self._has_loaded(key):
            retry = self.retries.get(key) or Retry()
            await asyncio.sleep(retry.pause)
            if key not in self.orders:
                return
            try:
                if self._is_lethal(retry):
                    await self._trial(key, settings)
                await self._load(key, settings)
            except Exception as exc:
                if isinstance(exc, WorkerLost) and exc.blameless and key in self.orders:
                    # Another model's call hung, and the next worker is on its way.
                    continue
                await self._failed(key, settings, retry, exc)
            else:
                self.retries.pop(key, None)
                if key not in self.orders:
                    # It was unloaded in the meantime.
                    await self.unload(key)

    def _is_lethal(self, retry: Retry) -> bool:
        return retry.ended_worker and retry.failures >= DEATHS_BEFORE_TRIAL and len(self.orders) > 1

    async def _failed(
        self, key: str, settings: ModelSettings, retry: Retry, error: Exception
    ) -> None:
        """Record why a model did not come back, unless it has been unloaded."""
        if key not in self.orders:
            self.forget(key)
            return
        lost = error if isinstance(error, WorkerLost) else error.__cause__
        if isinstance(error, TimeoutError):
            # Nothing else stops native code.
            lost = WorkerLost(f"the load of model '{settings.name}' took too long", True)
            if self.process is not None:
                self.process.kill(lost)
            why = f" within {self.load_timeout:g} s (--load-timeout)"
        elif isinstance(error, HeadraceError):
            why = f": {error.message}"
        else:
            logger.error("a model did not load again; this is a bug", exc_info=error)
            why = ": the server failed while loading it"
        retry.failed(f"model '{settings.name}' did not load again{why}", lost)
        if self.retiring is not None:
            # It may be what keeps the memory, the port or the file that the load needs.
            self.retiring.end("a model could not be loaded beside the worker")
        logger.error("%s", retry)
        async with self._changed:
            self.retries[key] = retry
            self._changed.notify_all()
