"""Scores a file against a server: concurrent requests, answers in order, bounded memory."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from headrace.client import csv_files, pieces, sources, tables
from headrace.client import operations as ops
from headrace.client.advice import advice_on
from headrace.client.batch import Batch, Outcome
from headrace.client.client_errors import (
    BadAnswer,
    ClientError,
    InvalidRequest,
    ServerError,
    TimedOut,
)
from headrace.client.flows import Policy, known_model
from headrace.client.input_files import InputFile, kind_of
from headrace.client.part import Done, PartFile
from headrace.client.reasons import Reasons, without_place
from headrace.client.result import InferResult
from headrace.client.schemes import open_async_transport
from headrace.client.sources import Selection
from headrace.client.transports import AsyncTransport, Options, drive_async
from headrace.errors import ConfigurationError

logger = logging.getLogger("headrace.client")

# Rows of a table in one request, by default.
TABLE_ROWS = 1000
# Errors that one bad row can cause for its whole batch.
DIVISIBLE = (InvalidRequest, ServerError, BadAnswer)
# Errors of an entry; all others, such as a server that is gone, end the run.
OF_AN_ENTRY = (*DIVISIBLE, TimedOut)
# So many failures without a single answer end the run.
HOPELESS = 100

Report = Callable[[Done], None]


@dataclass(frozen=True)
class Job:
    """What to score and how. `batch_size` counts requests, or rows of a table; None is the default.

    Each of the `workers` starts a batch at least `interval` seconds after it started its previous
    one, plus a random delay of up to `jitter` seconds. The run ends early when the first entries
    all fail, unless `keep_going`.
    """

    url: str
    model: str
    input: InputFile
    output: Path
    version: str | None = None
    workers: int = 10
    batch_size: int | None = None
    interval: float = 0.0
    jitter: float = 0.0
    binary: bool = False
    selection: Selection = Selection()
    keep_going: bool = False
    policy: Policy = Policy()
    options: Options = Options()


class NothingSucceeds(ClientError):
    """The first entries of a file all fail, so that the rest was not tried."""


async def score(job: Job, report: Report) -> Done:
    """Score the whole file and put the output in place; `report` is called after every step.

    If this ends early, the answers so far are kept for the next run of the same job.

    Raises:
        ConfigurationError: the files cannot be read or written so, or belong to another run.
        NothingSucceeds: the first entries all fail; there is no output.
        ClientError: the server cannot be reached, stays unavailable, or does not know the model.
    """
    kind = _checked_kind(job)
    try:
        transport = open_async_transport(job.url, job.options)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    try:
        reasons = _reasons(job, kind)
        with PartFile(job.output, _identity(job), kind != "lines", reasons) as part:
            try:
                advice = await _score_rest(job, kind, part, transport, report)
            except NothingSucceeds:
                # An answer may have come in the same moment; the next run begins after it.
                if part.done.entries == part.done.failed:
                    part.remove()
                raise
            done = part.done._replace(advice=advice)
            if tables.is_table(job.output, kind):
                tables.write_table(part.path, job.output, job.input, job.selection.keep)
                part.remove()
            else:
                part.publish()
            return done
    finally:
        await transport.close()


def _reasons(job: Job, kind: str) -> Reasons:
    """Where the reasons of failures are counted, in the words of the file."""
    if kind == "lines":
        return Reasons()
    return Reasons("row", partial(csv_files.line_numbers, job.input) if kind == "csv" else None)


def _checked_kind(job: Job) -> str:
    """What the input holds; refuses files that cannot be read, or written, so."""
    ending = kind_of(job.output)
    assert job.input.kind
    job.input.check()
    if not job.output.parent.is_dir():
        raise ConfigurationError(
            f"{job.output}: there is no folder {job.output.parent} to write the answers in"
        )
    if job.output.exists() and job.output.samefile(job.input.path):
        raise ConfigurationError(f"{job.output}: the output would replace the input")
    kind = pieces.content_of(job.input)
    if kind == "lines" and ending != "lines":
        raise ConfigurationError(
            "a table of answers needs a table as input; name an output that ends in .jsonl"
        )
    if kind == "lines" and job.selection != Selection():
        raise ConfigurationError(
            f"{job.input.path} holds v2 requests; --keep and --ignore-extra are for files of rows"
        )
    if job.selection.keep and not tables.is_table(job.output, kind):
        raise ConfigurationError(
            "--keep needs a table of answers; name an output that ends in .csv or .parquet"
        )
    return kind


async def _score_rest(
    job: Job, kind: str, part: PartFile, transport: AsyncTransport, report: Report
) -> str:
    """Score what is not answered yet; returns the advice for a file that fails altogether."""
    hopeful = job.keep_going or part.done.entries > part.done.failed
    scorer = _Scorer(job, transport, hopeful, _reasons(job, kind))
    inputs = await scorer.model_inputs()
    if kind != "lines":
        names = pieces.names_of(job.input)
        sources.check(job.input, names, inputs, job.selection)
        scorer.advice = advice_on(names, inputs, job.selection)
    size = job.batch_size or (1 if kind == "lines" else TABLE_ROWS)
    report(part.done)
    batches = sources.batches(job.input, part.done.entries, size, inputs, job.selection)
    async with aclosing(_in_order(batches, scorer, job)) as answered:
        async for outcomes in answered:
            for outcome in outcomes:
                part.add(outcome)
            report(part.done)
    return scorer.advice


async def _in_order(
    batches: Iterator[Batch], scorer: _Scorer, job: Job
) -> AsyncGenerator[list[Outcome], None]:
    """The outcomes of the batches in their order, with `job.workers` of them in flight."""
    # As many again may be finished and waiting for a slower one ahead of them.
    window = job.workers * 2
    slots = asyncio.Semaphore(job.workers)
    loop = asyncio.get_running_loop()
    pending: deque[asyncio.Task[list[Outcome]]] = deque()

    async def take(batch: Batch) -> list[Outcome]:
        await slots.acquire()
        free = loop.time() + job.interval + random.uniform(0, job.jitter)
        try:
            return await scorer.outcomes(batch)
        finally:
            # Neither the answer nor the end of the run waits for the pause.
            if loop.time() < free:
                loop.call_at(free, slots.release)
            else:
                slots.release()

    try:
        for batch in batches:
            pending.append(asyncio.create_task(take(batch)))
            if len(pending) >= window:
                yield await pending.popleft()
        while pending:
            yield await pending.popleft()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


class Shares:
    """How many of the entries of failed batches are to blame, lately.

    Halving finds few bad entries among many with few requests; where a quarter is bad, asking
    one by one takes fewer.
    """

    # Entries that are remembered; fewer failures than the least say nothing.
    MEMORY, LEAST = 4000, 8

    def __init__(self) -> None:
        self._entries = self._failed = 0

    def add(self, entries: int, *, failed: int) -> None:
        """Record the fate of entries."""
        self._entries += entries
        self._failed += failed
        if self._entries > self.MEMORY:
            self._entries //= 2
            self._failed //= 2

    @property
    def halving_pays(self) -> bool:
        """Whether to halve a batch that failed, rather than to take it apart."""
        return self._failed < self.LEAST or self._failed * 4 < self._entries


class _Scorer:
    """Sends batches to one model, and finds out which entries of a failed batch are to blame."""

    def __init__(
        self, job: Job, transport: AsyncTransport, hopeful: bool, reasons: Reasons
    ) -> None:
        self._job = job
        self._transport = transport
        # Once anything is answered, failures do not end the run.
        self._hopeful = hopeful
        self._reasons = reasons
        self._shares = Shares()
        self.advice = ""

    async def model_inputs(self) -> list[dict[str, Any]]:
        """Metadata of the model's inputs; fails early if there is no such model."""
        operation = ops.ModelMetadata(self._job.model, self._job.version)
        flow = known_model(self._job.policy, operation)
        metadata: dict[str, Any] = await drive_async(flow, self._transport)
        inputs = metadata.get("inputs")
        return [item for item in inputs if "name" in item] if isinstance(inputs, list) else []

    async def outcomes(self, batch: Batch) -> list[Outcome]:
        """The outcome of a batch, in parts where some of it fails.

        Raises:
            NothingSucceeds: many entries failed by now, and none was answered.
        """
        failed = await self._tried(batch)
        if not isinstance(failed, ClientError):
            return [failed]
        count = len(batch.rows)
        divisible = count > 1 and isinstance(failed, DIVISIBLE) and batch.fault is None
        if not divisible or await self._is_of_no_row(batch, failed):
            self._failed(batch, failed, count if divisible else 1)
            return [Outcome(batch, error=failed)]
        return await self._divided(batch)

    async def _tried(self, batch: Batch) -> Outcome | ClientError:
        try:
            outcome = await self._outcome(batch)
        except OF_AN_ENTRY as error:
            return error
        self._hopeful = True
        return outcome

    async def _divided(self, batch: Batch) -> list[Outcome]:
        """The outcomes of a batch that failed, in halves or entry by entry."""
        count = len(batch.rows)
        edges = [0, count // 2, count] if self._shares.halving_pays else range(count + 1)
        outcomes: list[Outcome] = []
        for part in [batch.part(first, last) for first, last in pairwise(edges)]:
            found = await self._tried(part)
            rows = len(part.rows)
            if isinstance(found, Outcome):
                self._shares.add(rows, failed=0)
                outcomes.append(found)
            elif rows > 1 and isinstance(found, DIVISIBLE):
                outcomes += await self._divided(part)
            else:
                self._shares.add(rows, failed=rows)
                self._failed(part, found, rows)
                outcomes.append(Outcome(part, error=found))
        return outcomes

    def _failed(self, batch: Batch, error: ClientError, count: int) -> None:
        self._reasons.add(error.message, batch.start, count)
        if not self._hopeful and self._reasons.total >= HOPELESS:
            said = [next(self._reasons.lines()), *filter(None, [self.advice])]
            raise NothingSucceeds(
                "nothing succeeds, so that the rest was not tried and nothing was written "
                f"(--keep-going goes on): {'; '.join(said)}"
            )

    async def _outcome(self, batch: Batch) -> Outcome:
        if batch.fault is not None:
            raise batch.fault
        last = batch.start + len(batch.rows) - 1
        which = f"entries {batch.start} to {last}" if batch.rows else "no entries"
        logger.debug("%s: sending", which)
        operation = ops.Infer(self._job.model, batch.request, self._job.version, self._job.binary)
        flow = self._job.policy.calling(operation)
        try:
            result: InferResult = await drive_async(flow, self._transport)
        except ClientError as error:
            logger.debug("%s: %s", which, error.message)
            if batch.rows == [1]:
                error.message = without_place(error.message)
            raise
        logger.debug("%s: answered", which)
        batch.divide(result)
        return Outcome(batch, result)

    async def _is_of_no_row(self, batch: Batch, error: ClientError) -> bool:
        """Whether the request fails alike without any row, as when a column is missing."""
        try:
            await self._outcome(batch.part(0, 0))
        except OF_AN_ENTRY as without:
            return without.message == error.message
        return False


def _identity(job: Job) -> dict[str, Any]:
    """What two runs must have in common for the second to resume the first."""
    path = job.input.path
    stat = path.stat()
    form = {"encoding": job.input.encoding, "delimiter": job.input.delimiter}
    return {
        "input": str(path.resolve()),
        "size": stat.st_size,
        "modified": stat.st_mtime_ns,
        "model": job.model,
        "version": job.version,
        **{name: value for name, value in form.items() if value},
        **({"selection": asdict(job.selection)} if job.selection != Selection() else {}),
    }
