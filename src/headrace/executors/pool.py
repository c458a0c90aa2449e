"""A pool of worker processes that share one environment, and the models placed on them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

from headrace.errors import DeadlineExceeded, LoadFailed, ModelNotReady
from headrace.executors.executor import STOP_GRACE, Done, WorkerLost
from headrace.executors.process import Environment, WorkerProcess
from headrace.executors.worker_slot import WorkerSlot
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelMetadata
from headrace.settings import ModelSettings
from headrace.worker.frames import Kind

logger = logging.getLogger("headrace.executors")

# One batch runs and one waits in the worker, so that it never idles while the front process
# handles answers. Measured: docs/decisions/0009.
BATCHES_PER_INSTANCE = 2
# Batches that were begun are ended at most this many seconds after their deadline.
SWEEP_INTERVAL = 0.05
# Ends what is past its deadline in a worker, of the model with this key.
EndOverrun = Callable[[WorkerProcess, str], None]


class WorkerPool:
    """Keeps `size` workers alive and routes each batch to the least busy one.

    Workers start when the first model is placed on them; each has a slot that looks after it.
    Batches that were waiting for a worker that died wait for the next one.
    """

    def __init__(self, environment: Environment, size: int, load_timeout: float) -> None:
        self._environment = environment
        self._load_timeout = load_timeout
        self._changed = asyncio.Condition()
        self._slots = [
            WorkerSlot(environment, load_timeout, self._changed, self._trial) for _ in range(size)
        ]
        self._quarantine = asyncio.Lock()
        self._trials = asyncio.Lock()
        self._sweeper: asyncio.TimerHandle | None = None
        # Of models that work on several requests at once in threads: how many.
        self._threads: dict[str, int] = {}
        # Models that work on one batch after the other.
        self._in_turn: set[str] = set()

    async def load(self, key: str, settings: ModelSettings) -> ModelMetadata:
        """Load a model on `settings.instances` workers, the emptiest first."""
        if settings.instances > len(self._slots):
            logger.warning(
                "model '%s' asks for %d instances and gets %d, one for each worker "
                "(--parallel-workers)",
                *(settings.name, settings.instances, len(self._slots)),
            )
        slots = sorted(self._slots, key=lambda slot: slot.size)
        chosen = slots[: max(1, min(settings.instances, len(slots)))]
        for slot in chosen:
            slot.reserved.add(key)
        loads = [asyncio.create_task(slot.load(key, settings)) for slot in chosen]
        try:
            metadata = await asyncio.gather(*loads)
        except BaseException:
            for load in loads:
                load.cancel()
            # Otherwise a load that continues elsewhere would take its place after all.
            await asyncio.wait(loads)
            # Leave nothing of a failed load behind, not even an instance that loads after all.
            pending = [slot for slot in chosen if key not in slot.loaded]
            await self.unload(key)
            for slot in pending:
                slot.forget(key)
            raise
        finally:
            for slot in chosen:
                slot.reserved.discard(key)
        if not metadata[0].is_service:
            self._threads[key] = metadata[0].concurrency
        if metadata[0].concurrency == 1:
            self._in_turn.add(key)
        return metadata[0]

    def slots(self, key: str) -> int:
        return BATCHES_PER_INSTANCE * sum(key in slot.orders for slot in self._slots)

    def is_up(self, key: str) -> bool:
        return any(slot.holds(key) for slot in self._slots)

    def trouble(self, key: str) -> str:
        retries = (slot.retries.get(key) for slot in self._slots if key in slot.orders)
        return next((str(retry) for retry in retries if retry), "its worker is restarting")

    @property
    def restarts(self) -> int:
        """Workers restarted since the pool started."""
        return sum(slot.restarts for slot in self._slots)

    @property
    def pids(self) -> list[int]:
        """Process ids of the live workers."""
        return [process.pid for process in self._processes]

    @property
    def _processes(self) -> list[WorkerProcess]:
        found = [slot.process for slot in self._slots if slot.process is not None]
        return found + [slot.retiring.process for slot in self._slots if slot.retiring is not None]

    async def measured(self, timeout: float) -> list[list[Any]]:
        """The metrics of user code, one answer per live worker; see `Channel.measured`."""
        return await asyncio.gather(*(each.channel.measured(timeout) for each in self._processes))

    async def infer(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> InferenceResponse:
        process = self._least_busy(key) or await self._wait_for(key, deadline)
        return await _answer(process, key, request, deadline, self._end_overrun)

    def begin(self, key: str, request: InferenceRequest, deadline: float, done: Done) -> bool:
        process = self._least_busy(key)
        if process is None:
            return False
        channel = process.channel
        channel.begin(key, request, deadline, done, key in self._in_turn)
        if self._sweeper is None:
            # One timer for all of them: one for each would cost more than the rest of this.
            self._sweeper = channel.loop.call_later(SWEEP_INTERVAL, self._sweep, channel.loop)
        return True

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """End batches that were begun and are past their deadline, and workers that hang.

        A thread that hangs among many holds up nobody, so its worker stays until all of them do,
        unless the worker does not react at all.
        """
        self._sweeper = None
        for process in self._processes:
            late, has_more = process.channel.end_late(loop.time(), _late())
            for key in late:
                if self._threads.get(key, 1) == 1:
                    self._end_overrun(process, key)
                elif not process.channel.is_lost:
                    probe = process.probe()
                    loop.call_later(STOP_GRACE, self._end_if_stuck, process, key, probe)
            if has_more and not process.channel.is_lost and self._sweeper is None:
                self._sweeper = loop.call_later(SWEEP_INTERVAL, self._sweep, loop)

    def _end_if_stuck(
        self, process: WorkerProcess, key: str, probe: asyncio.Future[object]
    ) -> None:
        if not probe.done() or process.channel.abandoned(key) >= self._threads.get(key, 1):
            self._end_overrun(process, key)

    def _end_overrun(
        self, process: WorkerProcess, key: str, what: str = "a request to model '%s'"
    ) -> None:
        """Get rid of a call that is past its deadline."""
        settings = self._settings_of(key)
        why = what % (settings.name if settings else key) + " overran its deadline"
        slot = next((slot for slot in self._slots if slot.uses(process)), None)
        if slot is not None:
            slot.overrun(process, key, why)
        else:
            process.kill(WorkerLost(why, True))

    def _settings_of(self, key: str) -> ModelSettings | None:
        return next((slot.orders[key] for slot in self._slots if key in slot.orders), None)

    async def infer_alone(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> InferenceResponse:
        """Answer one batch in a worker that is started for it and stopped afterwards.

        One at a time: a model may be large, and this is a second copy of it.
        """
        settings = self._settings_of(key)
        if settings is None:
            raise ModelNotReady("the model is not loaded")
        try:
            async with asyncio.timeout_at(deadline), self._quarantine:
                process = await WorkerProcess.spawn(self._environment)
                try:
                    await _load_alone(process, key, settings)
                    return await _answer(process, key, request, deadline, self._end_overrun)
                finally:
                    await process.stop(STOP_GRACE)
        except TimeoutError:
            raise _late() from None

    async def _trial(self, key: str, settings: ModelSettings) -> None:
        """Load a model in a worker of its own, which is stopped afterwards.

        Raises:
            LoadFailed: with the reason; its cause is `WorkerLost` when that worker ended.
        """
        async with self._trials:
            process = await WorkerProcess.spawn(self._environment)
            try:
                async with asyncio.timeout(self._load_timeout):
                    order = {"model": key, "settings": settings.to_dict()}
                    await process.channel.request(Kind.LOAD, order)
            except WorkerLost:
                death = await process.death()
                raise LoadFailed(death.message) from death
            except TimeoutError:
                ended = WorkerLost("it took too long in a worker of its own", True)
                raise LoadFailed(ended.message) from ended
            finally:
                await process.stop(STOP_GRACE)

    async def stream(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> AsyncGenerator[InferenceResponse, None]:
        process = self._least_busy(key) or await self._wait_for(key, deadline)
        on_leave = partial(self._end_stream, process, key, deadline)
        async with aclosing(process.channel.stream(key, request, deadline, on_leave)) as pieces:
            async for piece in pieces:
                yield piece

    def _end_stream(
        self, process: WorkerProcess, key: str, deadline: float, ended: asyncio.Future[Any]
    ) -> None:
        """End a worker that does not end a stream that its caller has left.

        Until its deadline the model may take as long as it likes for the piece that it is at.
        """
        loop = asyncio.get_running_loop()
        grace_ends = max(deadline, loop.time()) + STOP_GRACE
        overrun = loop.call_at(grace_ends, self._overrun_stream, process, key, ended)
        ended.add_done_callback(lambda _: overrun.cancel())

    def _overrun_stream(self, process: WorkerProcess, key: str, ended: asyncio.Future[Any]) -> None:
        if not ended.done():
            ended.set_exception(_late())
            self._end_overrun(process, key, "a stream of model '%s' that nobody reads")

    def withdraw(self, request: InferenceRequest) -> None:
        for process in self._processes:
            if not process.channel.is_lost:
                process.channel.withdraw(request)

    async def unload(self, key: str) -> None:
        self._threads.pop(key, None)
        self._in_turn.discard(key)
        for slot in self._slots:
            await slot.unload(key)

    async def stop(self) -> None:
        await asyncio.gather(*(slot.stop() for slot in self._slots))

    def _least_busy(self, key: str) -> WorkerProcess | None:
        best: WorkerProcess | None = None
        for slot in self._slots:
            process = slot.process
            if key not in slot.loaded or process is None or process.channel.is_lost:
                if slot.retiring is None or not slot.retiring.holds(key):
                    continue
                process = slot.retiring.process
            if best is None or process.channel.calls < best.channel.calls:
                best = process
        return best

    async def _wait_for(self, key: str, deadline: float) -> WorkerProcess:
        """The next worker that holds the model, within the deadline."""
        async with self._changed:
            while (process := self._least_busy(key)) is None:
                refusals = [slot.refusal(key) for slot in self._slots if key in slot.orders]
                if not refusals:
                    raise ModelNotReady("the model is not loaded")
                if all(refusals):
                    raise ModelNotReady(refusals[0])
                remaining = deadline - asyncio.get_running_loop().time()
                try:
                    await asyncio.wait_for(self._changed.wait(), max(0.0, remaining))
                except TimeoutError:
                    raise DeadlineExceeded("no worker came up for the model in time") from None
        return process


async def _load_alone(process: WorkerProcess, key: str, settings: ModelSettings) -> None:
    """Load a model in a worker that was started for one request.

    Raises:
        WorkerLost: the worker died; the request is blameless if something outside ended it.
        HeadraceError: why the model does not load.
    """
    try:
        await process.channel.request(Kind.LOAD, {"model": key, "settings": settings.to_dict()})
    except WorkerLost as lost:
        raise WorkerLost(lost.message, lost.blameless or lost.killed) from None


async def _answer(
    process: WorkerProcess, key: str, request: InferenceRequest, deadline: float, end: EndOverrun
) -> InferenceResponse:
    answer = process.channel.infer(key, request)
    overrun = process.channel.loop.call_at(deadline, _overrun, process, key, answer, end)
    try:
        response: InferenceResponse = await answer
    finally:
        overrun.cancel()
    return response


def _overrun(
    process: WorkerProcess, key: str, answer: asyncio.Future[InferenceResponse], end: EndOverrun
) -> None:
    if not answer.done():
        answer.set_exception(_late())
        end(process, key)


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the request's time ran out before the model answered")
