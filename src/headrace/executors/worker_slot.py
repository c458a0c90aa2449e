"""Room for one worker: the process that is in it now, and the models it is to hold."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from headrace.errors import HeadraceError, LoadFailed
from headrace.executors.executor import WorkerLost
from headrace.executors.process import Environment, WorkerProcess
from headrace.executors.retry import Retry, pause_after
from headrace.protocol.messages import ModelMetadata
from headrace.settings import ModelSettings
from headrace.worker.frames import Kind

logger = logging.getLogger("headrace.executors")

FIRST_PAUSE = 0.05
# A worker that had loaded a model, or lived this long, comes back after the shortest pause.
STEADY = 10.0
STOP_GRACE = 5.0
# The models of a worker load one after the other, so that a death has one model to its name. One
# that takes longer than this holds up the next no more.
LONG_LOAD = 10.0
# Requests wait while a model comes back from so many deaths in a row; afterwards they are refused.
PATIENT_DEATHS = 5
# After so many, a model is tried in a worker of its own before it may end one with others in it.
DEATHS_BEFORE_TRIAL = 2

# Loads a model in a worker that holds nothing else; raises `LoadFailed`, from `WorkerLost` when
# that ended.
Trial = Callable[[str, ModelSettings], Awaitable[None]]


class WorkerSlot:
    """Keeps one worker alive, and its models loaded.

    A dead worker is started again and loads its models again. Whatever fails is tried again, for
    as long as the model is wanted. `changed` is notified when a worker is up, and when a model can
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
        self._supervisor: asyncio.Task[None] | None = None
        self.load_timeout = load_timeout
        self.process: WorkerProcess | None = None
        self.orders: dict[str, ModelSettings] = {}
        self.loaded: set[str] = set()
        self.retries: dict[str, Retry] = {}
        self.restarts = 0

    @property
    def is_up(self) -> bool:
        """Whether there is a process that takes calls."""
        return self.process is not None and not self.process.channel.is_lost

    def holds(self, key: str) -> bool:
        """Whether a model could answer here now."""
        return self.is_up and key in self.loaded

    def refusal(self, key: str) -> str:
        """Why requests need not wait for a model that is to come back here; empty where they do."""
        retry = self.retries.get(key)
        if retry is None or (retry.ended_worker and retry.failures < PATIENT_DEATHS):
            return ""
        return retry.reason

    async def load(self, key: str, settings: ModelSettings) -> ModelMetadata:
        """Load a model for the first time, on another worker when one dies meanwhile.

        Raises:
            LoadFailed: with the reason. Its cause is `WorkerLost` when both workers died.
        """
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise())
        try:
            # Not `wait_for`, which in Python 3.11 logs what it cancels as an error.
            metadata = await self._load_twice(key, settings)
        except TimeoutError:
            raise LoadFailed(
                f"model '{settings.name}' did not load within {self.load_timeout:g} s "
                "(--load-timeout)"
            ) from None
        self.orders[key] = settings
        return metadata

    async def unload(self, key: str) -> None:
        """Forget a model. Unknown keys are fine."""
        self.orders.pop(key, None)
        self.retries.pop(key, None)
        if key in self.loaded and self.process is not None:
            self.loaded.discard(key)
            try:
                answer = self.process.channel.request(Kind.UNLOAD, {"model": key})
                await asyncio.wait_for(answer, STOP_GRACE)
            except TimeoutError:
                logger.warning("unloading %s takes more than %g s", key, STOP_GRACE)
            except HeadraceError as exc:
                logger.warning("unloading %s failed: %s", key, exc)

    def forget(self, key: str) -> None:
        """Have the worker drop a model when its load, which was given up, ends after all."""
        if self.process is not None and self.is_up:
            answer = self.process.channel.request(Kind.UNLOAD, {"model": key})
            # It comes when the load ends, which may be never.
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def stop(self) -> None:
        """End the worker; it does not come back."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
        if self.process is not None:
            await self.process.stop(STOP_GRACE)

    async def _load_twice(self, key: str, settings: ModelSettings) -> ModelMetadata:
        try:
            return await self._load_on(await self._up(), key, settings)
        except WorkerLost:
            process = await self._up()
            try:
                return await self._load_on(process, key, settings)
            except WorkerLost:
                death = await process.death()
                raise LoadFailed(f"model '{settings.name}': {death.message}") from death

    async def _up(self) -> WorkerProcess:
        """The worker, as soon as there is one."""
        async with asyncio.timeout(self.load_timeout), self._changed:
            await self._changed.wait_for(lambda: self.is_up)
        assert self.process is not None, "waited for just above"
        return self.process

    async def _load_on(
        self, process: WorkerProcess, key: str, settings: ModelSettings
    ) -> ModelMetadata:
        """Load a model when its turn has come; raises TimeoutError when that takes too long."""
        order = {"model": key, "settings": settings.to_dict()}
        async with self._turn:
            answer = process.channel.request(Kind.LOAD, order)
            ends = asyncio.get_running_loop().time() + self.load_timeout
            try:
                await asyncio.wait([answer], timeout=min(LONG_LOAD, self.load_timeout))
            except asyncio.CancelledError:
                answer.cancel()
                raise
        async with asyncio.timeout_at(ends):
            metadata = ModelMetadata.from_dict(await answer)
        async with self._changed:
            self.loaded.add(key)
            self._changed.notify_all()
        return metadata

    async def _supervise(self) -> None:
        """Keep a worker here: start it, load its models, wait for its death, start it again."""
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
            await self._bring_back(process)
            await process.exited.wait()
            if self.loaded or loop.time() - started > STEADY:
                failures = 1
            self.process = None
            self.loaded.clear()
            self.restarts += 1
            pause = pause_after(failures, FIRST_PAUSE)
            fields = {"pid": process.pid}
            logger.error("worker %s, restarting in %.2f s", process.fate, pause, extra=fields)
            await asyncio.sleep(pause)

    async def _bring_back(self, process: WorkerProcess) -> None:
        """Load again what the last worker held, what failed last; returns when nothing is left."""
        while waiting := [key for key in self.orders if key not in self.loaded]:
            key = min(waiting, key=lambda key: self.retries[key].due if key in self.retries else 0)
            retry = self.retries.get(key)
            if retry is not None and retry.pause:
                if await _exits_within(process, retry.pause):
                    return
                continue
            await self._load_again(process, key)
            if not self.is_up:
                return

    def _is_lethal(self, retry: Retry) -> bool:
        return retry.ended_worker and retry.failures >= DEATHS_BEFORE_TRIAL and len(self.orders) > 1

    async def _load_again(self, process: WorkerProcess, key: str) -> None:
        settings = self.orders[key]
        retry = self.retries.get(key) or Retry()
        why = ""
        lost: BaseException | None = None
        try:
            if self._is_lethal(retry):
                await self._trial(key, settings)
            await self._load_on(process, key, settings)
        except WorkerLost:
            lost = await process.death()
            why = f": {lost.message}"
        except TimeoutError:
            # Nothing else stops what a model does in native code.
            lost = WorkerLost("the worker was ended for a load that took too long", True)
            process.kill(lost)
            why = f" within {self.load_timeout:g} s (--load-timeout)"
        except HeadraceError as exc:
            why, lost = f": {exc.message}", exc.__cause__
        except Exception:
            logger.exception("a model did not load again; this is a bug")
            why = ": the server failed while loading it"
        if key not in self.orders:
            # Unloaded meanwhile.
            await self.unload(key)
        elif not why:
            self.retries.pop(key, None)
        else:
            retry.failed(f"model '{settings.name}' did not load again{why}", lost)
            logger.error("%s", retry)
            async with self._changed:
                self.retries[key] = retry
                self._changed.notify_all()


async def _exits_within(process: WorkerProcess, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await process.exited.wait()
    except TimeoutError:
        return False
    return True
