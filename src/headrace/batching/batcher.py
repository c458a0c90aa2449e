"""Adaptive batching by back-pressure, one batcher per served model.

A request is dispatched as soon as a slot is free; requests that arrive while all slots are busy
wait and are dispatched together. Nothing is polled, and a lone request never waits. Every request
owns its future: a caller who leaves cancels it, and neither the batch nor its neighbours notice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

from headrace.batching import policy
from headrace.batching.entry import Entry, Run, fail, note_times
from headrace.batching.limits import BatchLimits
from headrace.batching.pace import Pace
from headrace.batching.waiting import Group, Waiting
from headrace.errors import DeadlineExceeded, HeadraceError, Overloaded, Poisoned, WorkerCrashed
from headrace.observability.counters import BatchCounts
from headrace.observability.timing import Timing
from headrace.protocol.messages import InferenceRequest, InferenceResponse

logger = logging.getLogger("headrace.batching")

Execute = Callable[[InferenceRequest, float], Awaitable[InferenceResponse]]
Withdraw = Callable[[InferenceRequest], None]
Outcome = InferenceResponse | HeadraceError
Pieces = list[InferenceResponse] | None
# Starts a batch if that is possible without waiting; what it is given gets the outcome, later.
Begin = Callable[[InferenceRequest, float, Callable[[Outcome], None]], bool]

# A request is refused if it would take longer than this part of its time: its wait is an estimate.
USABLE_TIME = 0.8
# A batch that can wait does so for so many turns of the event loop, if each brings requests.
MOST_TURNS = 4
MOST_TURNS_IF_SLOW = 16
# Between two batches, a slow model waits for this part of the time that one takes, if that is at
# least so many seconds, because the event loop counts milliseconds. It waits for so many at most,
# because a single batch that hangs makes the average long.
PAUSE = 0.04
SHORTEST_PAUSE = 0.0005
LONGEST_PAUSE = 0.1
# Expired requests fail at most this many seconds late.
SWEEP_INTERVAL = 0.05


class Batcher:
    """Coalesces the requests of one model into batches for `slots` instances.

    A batch is started by `begin` if that is possible, which saves it a task. `execute` waits until
    there is something to run it on, and runs what has to run once more.
    """

    def __init__(
        self,
        execute: Execute,
        limits: BatchLimits,
        slots: int = 1,
        withdraw: Withdraw = lambda request: None,
        execute_alone: Execute | None = None,
        counts: BatchCounts | None = None,
        begin: Begin | None = None,
    ) -> None:
        self._execute = execute
        self._execute_alone = execute_alone or execute
        self._withdraw = withdraw
        self._begin = begin
        self._limits = limits
        self._slots = slots
        self._merges = limits.max_batch_size > 1
        # Without the slots of batches that wait in a worker.
        self._instances = (slots + 1) // 2
        self._loop = asyncio.get_running_loop()
        self._waiting = Waiting()
        self._pace = Pace()
        self._running: set[asyncio.Future[Any]] = set()
        # How many batches run without a task, and what is done when one of them has ended.
        self._without_task = 0
        self._ended_one: asyncio.Future[None] | None = None
        self._executing: set[Entry] = set()
        self._batches: dict[InferenceRequest, Sequence[Entry]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._dispatching = False
        # Ends the pause between two batches of a slow model.
        self._pause: asyncio.TimerHandle | None = None
        # How many requests waited when dispatching was put off last, and how often it was.
        self._seen = self._turns = 0
        self._counts = counts or BatchCounts()

    def now(self) -> float:
        """The time of the event loop, which deadlines are stated in."""
        return self._loop.time()

    @property
    def max_batch_size(self) -> int:
        """The most rows in a batch, unless a single request has more."""
        return self._limits.max_batch_size

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return self._waiting.requests

    @property
    def in_flight(self) -> int:
        """Requests that wait or run."""
        return self._waiting.requests + len(self._executing)

    def submit(
        self,
        request: InferenceRequest,
        deadline: float,
        timing: Timing | None = None,
        received: int = 0,
    ) -> asyncio.Future[InferenceResponse]:
        """Queue a request; cancel the future to withdraw it. `timing` is filled in.

        `received` is how many bytes the request had when it arrived: it may be its parameters, or
        its text, that are large.

        Raises:
            Overloaded: the queue is full, or too long for the request's time.
        """
        now, size = self._loop.time(), request.nbytes
        if received > size:
            size = received
        if self._waiting.nbytes or self._waiting.requests:
            self._waiting.require_room(size, self._limits, now)
        unbatched = self._limits.unbatched
        if unbatched and policy.stays_alone(request, unbatched):
            count = None
        else:
            count = policy.rows(request) if self._merges else None
        entry = Entry(request, count or 1, size, now, deadline, self._loop.create_future())
        if timing is not None:
            entry.timing = timing
            timing.rows = count or policy.rows(request) or 1
        if count is None and not self._waiting.groups and self._has_slot and self._begun([entry]):
            # Nobody waits, and a request that cannot be merged has nobody to wait for.
            self._start_sweeper()
            return entry.future
        # A request that cannot be merged is a group of its own.
        group = entry if count is None else policy.key(request)
        # No request can take longer than if all of them went alone, and that is quickly computed.
        longest = (self._waiting.requests + self._slots + 1) * self._pace.interval
        ahead = self._batches_running + len(self._waiting.groups)
        if longest > USABLE_TIME * (deadline - now) and ahead >= self._slots:
            self._require_time(group, entry)
        self._waiting.add(group, entry)
        self._start_sweeper()
        self._wake()
        return entry.future

    def hold(self, request: InferenceRequest, received: int) -> int:
        """Count a request that is answered in pieces as waiting; returns its bytes, for `let_go`.

        Raises:
            Overloaded: requests that wait, and those that are held, leave no room for it.
        """
        size = max(request.nbytes, received)
        self._waiting.require_bytes(size, self._limits, self._loop.time())
        self._waiting.nbytes += size
        return size

    def let_go(self, size: int) -> None:
        """Stop counting a request that was held."""
        self._waiting.nbytes -= size

    async def drain(self) -> None:
        """Wait until no request waits or runs; none may be added in the meantime."""
        # So that no batch is held open for more.
        self._limits = replace(self._limits, max_batch_time=0.0)
        self._wake()
        while self._waiting.groups or self._running or self._without_task:
            if self._running:
                await asyncio.wait(self._running)
            elif self._without_task:
                if self._ended_one is None or self._ended_one.done():
                    self._ended_one = self._loop.create_future()
                # Several may wait for it, and each may be given up.
                await asyncio.wait([self._ended_one])
            else:
                self._end_pause()
                await asyncio.sleep(0)

    def abandon(self, error: HeadraceError) -> None:
        """Fail every request that waits or runs; running batches are left to finish."""
        for entries in (*self._waiting.groups.values(), self._executing):
            fail(tuple(entries), error)

    def _require_time(self, group: Hashable, entry: Entry) -> None:
        """Refuse a request that cannot be answered in time; it would only delay others.

        Raises:
            Overloaded: its time would be over before, or shortly after, its batch has ended.
        """
        waiting = self._waiting.groups.get(group)
        batches = policy.batches_until(
            entry.rows + (waiting.rows if waiting is not None else 0),
            self._limits.most_rows(entry.request),
            len(self._waiting.groups) + (waiting is None),
            self._waiting.rows + entry.rows,
        )
        wait = (self._batches_running + batches) * self._pace.interval
        if wait > USABLE_TIME * (entry.deadline - entry.arrived):
            raise Overloaded(
                f"an answer of this model takes about {wait:.1f} s now, longer than this request "
                "has time for"
            )

    def _start_sweeper(self) -> None:
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP_INTERVAL, self._sweep)

    @property
    def _batches_running(self) -> int:
        return len(self._running) + self._without_task

    @property
    def _is_slow(self) -> bool:
        """Whether the model takes long for a batch, so that there is time to make it large."""
        return self._merges and self._pace.is_slow

    @property
    def _has_slot(self) -> bool:
        # A slow model does not notice how long the next batch takes to reach it, and gets more out
        # of one batch than of two half as large.
        most = self._instances if self._is_slow else self._slots
        return self._batches_running < most

    def _wake(self) -> None:
        """Dispatch at the end of this loop iteration, when everything that arrived is queued."""
        if not self._dispatching and self._has_slot:
            self._dispatching = True
            self._seen = self._turns = 0
            self._loop.call_soon(self._dispatch_soon)
        elif self._pause is not None and self._waiting.rows >= self._limits.max_batch_size:
            self._end_pause()

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
            self._loop.call_soon(self._dispatch_soon)

    def _dispatch_soon(self) -> None:
        """Dispatch, but where there is time, first let those requests arrive that are coming.

        There is while the instances are busy, and where they take long for a batch.
        """
        self._pause = None
        arrived = self._waiting.requests
        is_slow = self._is_slow
        if (
            arrived > self._seen
            and (is_slow or self._batches_running >= self._instances)
            and self._turns < (MOST_TURNS_IF_SLOW if is_slow else MOST_TURNS)
            and self._has_slot
        ):
            self._seen = arrived
            self._turns += 1
            self._loop.call_soon(self._dispatch_soon)
        else:
            self._dispatching = False
            self._dispatch()

    def _dispatch(self) -> None:
        while self._waiting.groups and self._has_slot:
            batch = self._next_batch()
            if batch is None:
                return
            if batch and not self._begun(batch):
                self._start(self._run(batch))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._running.add(task)
        task.add_done_callback(partial(self._finished, self._loop.time()))

    def _finished(self, began: float, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        self._pace.batch_ended(began, self._loop.time(), bool(self._waiting.groups))
        self._dispatch_next()

    def _dispatch_next(self) -> None:
        """Dispatch after a batch has ended, whose callers may be about to ask again.

        A slow model waits a moment for them, unless enough others wait already.
        """
        if not self._waiting.requests:
            return
        pause = min(PAUSE * self._pace.took, LONGEST_PAUSE) if self._is_slow else 0.0
        if pause < SHORTEST_PAUSE or self._waiting.rows >= self._limits.max_batch_size:
            self._dispatch()
        elif not self._dispatching:
            self._dispatching = True
            self._seen = self._turns = 0
            self._pause = self._loop.call_later(pause, self._dispatch_soon)

    def _begun(self, batch: list[Entry]) -> bool:
        """Start a batch without a task, if that is possible now. Hot."""
        if self._begin is None:
            return False
        try:
            run = Run(batch, self._loop.time())
            if not self._begin(run.request, self._due(batch), partial(self._ended, run)):
                return False
        except Exception:
            # The usual way finds out again, and knows what to do.
            return False
        run.began = perf_counter()
        self._counts.begin(run.rows, run.taken)
        self._without_task += 1
        self._executing.update(batch)
        self._batches[run.request] = batch
        return True

    def _ended(self, run: Run, outcome: Outcome) -> None:
        """Deliver the outcome of a batch that was begun, or run it again. Hot."""
        batch = run.batch
        self._without_task -= 1
        self._executing.difference_update(batch)
        self._batches.pop(run.request, None)
        if batch[0].timing is not None:
            note_times(batch, run.rows, run.began)
        try:
            if isinstance(outcome, HeadraceError):
                raise outcome
            if policy.splits_slowly(batch, outcome):
                self._start(self._run(batch, run, outcome))
            else:
                self._deliver(run, outcome)
        except Exception as error:
            self._start(self._run(batch, run, error))
        if self._ended_one is not None and not self._ended_one.done():
            self._ended_one.set_result(None)
        if not isinstance(outcome, WorkerCrashed):
            self._pace.batch_ended(run.at, self._loop.time(), bool(self._waiting.groups))
        self._dispatch_next()

    def _deliver(self, run: Run, response: InferenceResponse, pieces: Pieces = None) -> None:
        """Give each request of a batch its part of the answer.

        Raises:
            BadModelOutput: the answer cannot be divided.
        """
        batch, ended = run.batch, perf_counter()
        if pieces is None:
            pieces = [response] if len(batch) == 1 else policy.split(response, run.counts)
        times = ended - run.began, run.began - run.taken, perf_counter() - ended
        self._counts.succeed(len(batch), run.rows, run.queued, *times)
        for entry, piece in zip(batch, pieces, strict=True):
            if not entry.future.done():
                entry.future.set_result(piece)

    async def _deliver_slowly(self, run: Run, response: InferenceResponse) -> None:
        slow = policy.splits_slowly(run.batch, response)
        divide = partial(policy.split, response, run.counts)
        self._deliver(run, response, await asyncio.to_thread(divide) if slow else None)

    def _next_batch(self) -> list[Entry] | None:
        """Take the batch whose turn it is; None when every group is still held open."""
        group = self._ripe_group()
        if group is None:
            return None
        return self._waiting.take(group, self._limits)

    def _ripe_group(self) -> Hashable | None:
        for group, waiting in self._waiting.groups.items():
            # A request that cannot be merged has nobody to wait for.
            until = None if isinstance(group, Entry) else self._held_until(waiting)
            if until is None:
                return group
            self._set_timer(until)
        return None

    def _held_until(self, waiting: Group) -> float | None:
        """When a batch held open by `max_batch_time` is dispatched; None for at once."""
        if not self._limits.max_batch_time or self._limits.max_batch_size <= 1:
            return None
        until = waiting[0].arrived + self._limits.max_batch_time
        if until <= self._loop.time():
            return None
        most = self._limits.most_rows(waiting[0].request)
        full = waiting.rows >= most
        return None if full else until

    def _set_timer(self, when: float) -> None:
        if self._timer is None or self._timer_at > when:
            if self._timer is not None:
                self._timer.cancel()
            # Kept here: uvloop's handle does not know a time less than a millisecond away.
            self._timer_at = when
            self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._wake()

    async def _run(
        self, batch: list[Entry], run: Run | None = None, outcome: Outcome | Exception | None = None
    ) -> None:
        """Run a batch, or deal with the outcome of a run that has ended already."""
        self._executing.update(batch)
        try:
            try:
                if isinstance(outcome, Exception):
                    raise outcome
                if run is not None and outcome is not None:
                    await self._deliver_slowly(run, outcome)
                else:
                    await self._run_batch(batch)
            except HeadraceError as exc:
                # What a dead worker was lost with lives on; the batch in its traceback must not.
                await self._recover(batch, exc.with_traceback(None))
        except Exception:
            logger.exception("a batch failed; this is a bug")
            fail(batch, HeadraceError("the server failed; its log has the details"))
        finally:
            self._executing.difference_update(batch)

    async def _run_batch(self, batch: list[Entry]) -> None:
        execute = self._execute_alone if batch[0].is_suspect else self._execute
        run = Run(batch, self._loop.time())
        self._counts.begin(run.rows, run.taken)
        self._batches[run.request] = batch
        run.began = perf_counter()
        try:
            response = await execute(run.request, self._due(batch))
        finally:
            self._batches.pop(run.request, None)
            # An observer times every request, or none does.
            if batch[0].timing is not None:
                note_times(batch, run.rows, run.began)
        await self._deliver_slowly(run, response)

    def _due(self, batch: Sequence[Entry]) -> float:
        """When the execution of a batch is ended."""
        return max([self._ended_by(entry) for entry in batch])

    def _ended_by(self, entry: Entry) -> float:
        # Ending an execution may end a worker, which an impatient caller must not cause.
        timeout = self._limits.infer_timeout
        return entry.deadline if timeout is None else max(entry.deadline, entry.arrived + timeout)

    async def _recover(self, batch: Sequence[Entry], error: HeadraceError) -> None:
        """Run the requests of a failed batch one by one, so that a bad one fails alone."""
        if died := isinstance(error, WorkerCrashed):
            self._pace.interrupted()
            for entry in batch:
                entry.count_death(error)
        if not died and (len(batch) == 1 or error.kind not in policy.OF_ONE_REQUEST):
            fail(batch, error)
            return
        for entry in batch:
            if not entry.future.done():
                await self._run_alone(entry)

    async def _run_alone(self, entry: Entry) -> None:
        while not entry.future.done():
            if entry.is_poisoned:
                fail([entry], Poisoned("every worker that was given this request died"))
            elif entry.deadline <= self._loop.time():
                fail([entry], entry.out_of_time())
            else:
                try:
                    await self._run_batch([entry])
                except WorkerCrashed as exc:
                    exc.__traceback__ = None
                    entry.count_death(exc)
                except DeadlineExceeded as exc:
                    fail([entry], entry.out_of_time() if entry.kills else exc)
                except HeadraceError as exc:
                    fail([entry], exc)

    def _sweep(self) -> None:
        """Fail expired requests; those still queued are never executed."""
        self._sweeper = None
        now = self._loop.time()
        self._waiting.sweep(now)
        for entry in self._executing:
            if entry.deadline <= now:
                fail([entry], entry.out_of_time())
        self._withdraw_abandoned()
        if self._waiting.groups or self._executing:
            self._sweeper = self._loop.call_later(SWEEP_INTERVAL, self._sweep)

    def _withdraw_abandoned(self) -> None:
        """Withdraw batches that nobody waits for; those that have not begun need not run."""
        for request, batch in list(self._batches.items()):
            if all(entry.future.done() for entry in batch):
                del self._batches[request]
                self._withdraw(request)
