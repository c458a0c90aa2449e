"""A pool of worker processes that share one environment, and the models placed on them."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from headrace.errors import DeadlineExceeded, HeadraceError, LoadFailed, ModelNotReady
from headrace.executors.executor import WorkerLost
from headrace.executors.process import Environment, WorkerProcess
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelMetadata
from headrace.settings import ModelSettings
from headrace.worker.frames import Kind

logger = logging.getLogger("headrace.executors")

FIRST_BACKOFF = 0.05
LONGEST_BACKOFF = 30.0
# A worker that had loaded a model, or lived this long, comes back after the shortest pause.
STEADY = 10.0
STOP_GRACE = 5.0
# One batch runs and one waits in the worker, which then never idles while the front process
# handles answers. Measured: docs/decisions/0009.
BATCHES_PER_INSTANCE = 2
# Deaths in a row while loading one model before the worker goes on without it.
MOST_STRIKES = 5


@dataclass
class Seat:
    """One of the pool's workers: the live process, if any, and the models it shall hold.

    `strikes` counts the deaths in a row while a model was being loaded again.
    """

    process: WorkerProcess | None = None
    orders: dict[str, ModelSettings] = field(default_factory=dict)
    loaded: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    strikes: dict[str, int] = field(default_factory=dict)
    supervisor: asyncio.Task[None] | None = None
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)
    last_fate: str = ""

    @property
    def is_up(self) -> bool:
        """Whether there is a process that takes calls."""
        return self.process is not None and not self.process.channel.is_lost


class WorkerPool:
    """Keeps `size` workers alive and routes each batch to the least busy one.

    Workers start when the first model is placed on them. A dead worker is started again with
    growing pauses and loads its models anew; batches that were waiting for it simply wait.
    """

    def __init__(self, environment: Environment, size: int, load_timeout: float) -> None:
        self._environment = environment
        self._load_timeout = load_timeout
        self._seats = [Seat() for _ in range(size)]
        self._changed = asyncio.Condition()
        self._quarantine = asyncio.Lock()
        self._stopping = False
        self.restarts = 0

    async def load(self, key: str, settings: ModelSettings) -> ModelMetadata:
        """Load a model on `settings.instances` workers, the emptiest first."""
        seats = sorted(self._seats, key=lambda seat: len(seat.orders))
        chosen = seats[: max(1, min(settings.instances, len(seats)))]
        loads = [asyncio.create_task(self._place(seat, key, settings)) for seat in chosen]
        try:
            # Not `wait_for`, which in Python 3.11 logs what it cancels as an error.
            async with asyncio.timeout(self._load_timeout):
                metadata = await asyncio.gather(*loads)
        except BaseException as exc:
            for load in loads:
                load.cancel()
            # Or one that still goes on elsewhere would take its seat after all.
            await asyncio.wait(loads)
            await self._abandon(key, chosen)
            if isinstance(exc, TimeoutError):
                raise self._overdue(settings, "did not load") from None
            raise
        return metadata[0]

    def slots(self, key: str) -> int:
        return BATCHES_PER_INSTANCE * sum(key in seat.orders for seat in self._seats)

    def is_up(self, key: str) -> bool:
        return any(seat.is_up and key in seat.loaded for seat in self._seats)

    @property
    def pids(self) -> list[int]:
        """Process ids of the live workers."""
        return [seat.process.pid for seat in self._seats if seat.process is not None]

    async def measured(self, timeout: float) -> list[list[Any]]:
        """What user code measures, one answer for each live worker; see `Channel.measured`."""
        processes = [seat.process for seat in self._seats if seat.process is not None]
        return await asyncio.gather(*(each.channel.measured(timeout) for each in processes))

    async def infer(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> InferenceResponse:
        process = self._least_busy(key) or await self._wait_for(key, deadline)
        return await _answer(process, key, request, deadline)

    async def infer_alone(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> InferenceResponse:
        """Answer one batch in a worker that is started for it, and ended with it.

        One at a time: a model may be large, and this is a second copy of it.
        """
        settings = next((seat.orders[key] for seat in self._seats if key in seat.orders), None)
        if settings is None:
            raise ModelNotReady("the model is not loaded")
        try:
            async with asyncio.timeout_at(deadline), self._quarantine:
                process = await WorkerProcess.spawn(self._environment)
                try:
                    order = {"model": key, "settings": settings.to_dict()}
                    await process.channel.request(Kind.LOAD, order)
                    return await _answer(process, key, request, deadline)
                finally:
                    await process.stop(STOP_GRACE)
        except TimeoutError:
            raise _late() from None

    async def stream(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> AsyncGenerator[InferenceResponse, None]:
        process = self._least_busy(key) or await self._wait_for(key, deadline)
        async with aclosing(process.channel.stream(key, request, deadline)) as pieces:
            async for piece in pieces:
                yield piece

    def withdraw(self, request: InferenceRequest) -> None:
        for seat in self._seats:
            if seat.process is not None and not seat.process.channel.is_lost:
                seat.process.channel.withdraw(request)

    async def unload(self, key: str) -> None:
        for seat in self._seats:
            seat.orders.pop(key, None)
            seat.failed.pop(key, None)
            seat.strikes.pop(key, None)
            if seat.process is not None and key in seat.loaded:
                seat.loaded.discard(key)
                try:
                    await asyncio.wait_for(
                        seat.process.channel.request(Kind.UNLOAD, {"model": key}), STOP_GRACE
                    )
                except TimeoutError:
                    logger.warning("unloading %s takes more than %g s", key, STOP_GRACE)
                except HeadraceError as exc:
                    logger.warning("unloading %s failed: %s", key, exc)

    async def _abandon(self, key: str, seats: list[Seat]) -> None:
        """Leave nothing of a failed load behind, not even one that ends well after all."""
        pending = [seat for seat in seats if key not in seat.loaded]
        await self.unload(key)
        for seat in pending:
            if seat.process is not None and seat.is_up:
                answer = seat.process.channel.request(Kind.UNLOAD, {"model": key})
                # It comes when the load ends, which may be never.
                answer.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def stop(self) -> None:
        self._stopping = True
        for seat in self._seats:
            if seat.supervisor is not None:
                seat.supervisor.cancel()
        await asyncio.gather(
            *(seat.process.stop(STOP_GRACE) for seat in self._seats if seat.process is not None)
        )

    def _least_busy(self, key: str) -> WorkerProcess | None:
        best: WorkerProcess | None = None
        for seat in self._seats:
            process = seat.process
            if key not in seat.loaded or process is None or process.channel.is_lost:
                continue
            if best is None or process.channel.calls < best.channel.calls:
                best = process
        return best

    async def _wait_for(self, key: str, deadline: float) -> WorkerProcess:
        """The next worker that holds the model, within the deadline."""
        async with self._changed:
            while (process := self._least_busy(key)) is None:
                holders = [seat for seat in self._seats if key in seat.orders]
                reasons = [seat.failed[key] for seat in holders if key in seat.failed]
                if len(reasons) == len(holders):
                    raise ModelNotReady(reasons[0] if reasons else "the model is not loaded")
                remaining = deadline - asyncio.get_running_loop().time()
                try:
                    await asyncio.wait_for(self._changed.wait(), max(0.0, remaining))
                except TimeoutError:
                    raise DeadlineExceeded("no worker came up for the model in time") from None
        return process

    async def _place(self, seat: Seat, key: str, settings: ModelSettings) -> ModelMetadata:
        if seat.supervisor is None:
            seat.supervisor = asyncio.create_task(self._supervise(seat))
        try:
            metadata = await self._try_on(seat, key, settings)
        except WorkerLost:
            # Another model that was loading at the same time may be the culprit: once more, alone.
            async with seat.alone:
                metadata = await self._try_alone(seat, key, settings)
        seat.orders[key] = settings
        return metadata

    async def _try_alone(self, seat: Seat, key: str, settings: ModelSettings) -> ModelMetadata:
        try:
            return await self._try_on(seat, key, settings)
        except WorkerLost as exc:
            fate = seat.last_fate
            raise LoadFailed(
                f"model '{settings.name}': the worker process {fate} while loading it"
            ) from exc

    async def _try_on(self, seat: Seat, key: str, settings: ModelSettings) -> ModelMetadata:
        async with self._changed:
            await self._changed.wait_for(lambda: seat.is_up)
        process = seat.process
        assert process is not None, "waited for just above"
        try:
            return await self._load_on(seat, process, key, settings)
        except WorkerLost:
            await process.exited.wait()
            seat.last_fate = process.fate
            raise

    async def _load_on(
        self, seat: Seat, process: WorkerProcess, key: str, settings: ModelSettings
    ) -> ModelMetadata:
        order = {"model": key, "settings": settings.to_dict()}
        meta = await process.channel.request(Kind.LOAD, order)
        async with self._changed:
            seat.loaded.add(key)
            self._changed.notify_all()
        return ModelMetadata.from_dict(meta)

    async def _supervise(self, seat: Seat) -> None:
        """Keep the seat's worker alive: start it, wait for its death, start it again."""
        loop = asyncio.get_running_loop()
        backoff = FIRST_BACKOFF
        while not self._stopping:
            started = loop.time()
            try:
                process = seat.process = await WorkerProcess.spawn(self._environment)
            except OSError as exc:
                logger.error("no worker could be started: %s", exc)
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, LONGEST_BACKOFF)
                continue
            async with self._changed:
                self._changed.notify_all()
            await self._reload(seat, process)
            await process.exited.wait()
            if seat.loaded or loop.time() - started > STEADY:
                backoff = FIRST_BACKOFF
            seat.process = None
            seat.loaded.clear()
            self.restarts += 1
            pause = backoff * random.uniform(0.5, 1.0)
            fields = {"pid": process.pid}
            logger.error("worker %s, restarting in %.2f s", process.fate, pause, extra=fields)
            await asyncio.sleep(pause)
            backoff = min(backoff * 2, LONGEST_BACKOFF)

    async def _reload(self, seat: Seat, process: WorkerProcess) -> None:
        """Load the seat's models into a fresh process, those that killed it before last.

        One at a time, so that a model that kills the worker while loading is known by name.
        """
        strikes = seat.strikes
        orders = [item for item in seat.orders.items() if item[0] not in seat.failed]
        for key, settings in sorted(orders, key=lambda item: strikes.get(item[0], 0)):
            if key not in seat.orders:
                # Unloaded while others were loaded again.
                continue
            try:
                await asyncio.wait_for(
                    self._load_on(seat, process, key, settings), self._load_timeout
                )
                strikes.pop(key, None)
            except WorkerLost:
                await process.exited.wait()
                strikes[key] = strikes.get(key, 0) + 1
                if strikes[key] >= MOST_STRIKES:
                    self._give_up(
                        seat,
                        key,
                        f"model '{settings.name}': "
                        f"the worker process {process.fate} while loading it",
                    )
                return
            except TimeoutError:
                self._give_up(seat, key, str(self._overdue(settings, "did not load again")))
            except HeadraceError as exc:
                self._give_up(seat, key, f"model '{settings.name}' did not load again: {exc}")
        async with self._changed:
            self._changed.notify_all()

    def _overdue(self, settings: ModelSettings, what: str) -> LoadFailed:
        return LoadFailed(
            f"model '{settings.name}' {what} within {self._load_timeout:g} s (--load-timeout)"
        )

    def _give_up(self, seat: Seat, key: str, reason: str) -> None:
        seat.failed[key] = reason
        logger.error(reason)


async def _answer(
    process: WorkerProcess, key: str, request: InferenceRequest, deadline: float
) -> InferenceResponse:
    loop = asyncio.get_running_loop()
    answer = process.channel.infer(key, request)
    overrun = loop.call_at(deadline, _overrun, process, answer)
    try:
        response: InferenceResponse = await answer
    finally:
        overrun.cancel()
    return response


def _overrun(process: WorkerProcess, answer: asyncio.Future[InferenceResponse]) -> None:
    """End a worker whose batch is past its deadline; nothing else stops native code."""
    if not answer.done():
        answer.set_exception(_late())
        process.kill(WorkerLost("the worker was ended for a request past its deadline", True))


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the request's time ran out before the model answered")
