"""Scores a file against a server: concurrent requests, answers in order, bounded memory."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.client import operations as ops
from headrace.client import sources, tables
from headrace.client.batch import Batch, Outcome
from headrace.client.client_errors import (
    BadAnswer,
    ClientError,
    InvalidRequest,
    ServerError,
    TimedOut,
)
from headrace.client.flows import Policy
from headrace.client.part import Done, PartFile
from headrace.client.result import InferResult
from headrace.client.schemes import open_async_transport
from headrace.client.transports import AsyncTransport, Options, drive_async
from headrace.errors import ConfigurationError

logger = logging.getLogger("headrace.client")

# Rows of a table in one request, by default.
TABLE_ROWS = 1000
# Errors that one bad row can cause for its whole batch.
DIVISIBLE = (InvalidRequest, ServerError, BadAnswer)
# Errors of an entry; all others, such as a server that is gone, end the run.
OF_AN_ENTRY = (*DIVISIBLE, TimedOut)

Report = Callable[[Done], None]


@dataclass(frozen=True)
class Job:
    """What to score and how. `batch_size` counts lines, or rows of a table; None is the default.

    Each of the `workers` starts a batch at least `interval` seconds after it started its previous
    one, plus a random delay of up to `jitter` seconds.
    """

    url: str
    model: str
    input: Path
    output: Path
    version: str | None = None
    workers: int = 10
    batch_size: int | None = None
    interval: float = 0.0
    jitter: float = 0.0
    binary: bool = False
    policy: Policy = Policy()
    options: Options = Options()


async def score(job: Job, report: Report) -> Done:
    """Score the whole file and put the output in place; `report` is called after every step.

    If this ends early, the answers so far are kept for the next run of the same job.

    Raises:
        ConfigurationError: the files cannot be read or written so, or belong to another run.
        ClientError: the server cannot be reached, stays unavailable, or does not know the model.
    """
    kind = sources.kind_of(job.input)
    whole = sources.kind_of(job.output) != "lines"
    if whole and kind == "lines":
        raise ConfigurationError(
            "a table of answers needs a table as input; name an output that ends in .jsonl"
        )
    if not job.input.is_file():
        raise ConfigurationError(f"{job.input}: there is no such file")
    if job.output.exists() and job.output.samefile(job.input):
        raise ConfigurationError(f"{job.output}: the output would replace the input")
    try:
        transport = open_async_transport(job.url, job.options)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    try:
        with PartFile(job.output, _identity(job), kind != "lines") as part:
            await _score_rest(job, part, transport, report)
            done = part.done
            if whole:
                tables.write_table(part.path, job.output)
                part.remove()
            else:
                part.publish()
            return done
    finally:
        await transport.close()


async def _score_rest(job: Job, part: PartFile, transport: AsyncTransport, report: Report) -> None:
    scorer = _Scorer(job, transport)
    inputs = await scorer.model_inputs()
    size = job.batch_size or (1 if sources.kind_of(job.input) == "lines" else TABLE_ROWS)
    report(part.done)
    batches = sources.batches(job.input, part.done.entries, size, inputs)
    async with aclosing(_in_order(batches, scorer, job)) as answered:
        async for outcomes in answered:
            for outcome in outcomes:
                part.add(outcome)
            report(part.done)


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


class _Scorer:
    """Sends batches to one model, and finds out which entries of a failed batch are to blame."""

    def __init__(self, job: Job, transport: AsyncTransport) -> None:
        self._job = job
        self._transport = transport

    async def model_inputs(self) -> list[dict[str, Any]]:
        """Metadata of the model's inputs; fails early if there is no such model."""
        operation = ops.ModelMetadata(self._job.model, self._job.version)
        flow = self._job.policy.calling(operation)
        metadata: dict[str, Any] = await drive_async(flow, self._transport)
        inputs = metadata.get("inputs")
        return [item for item in inputs if "name" in item] if isinstance(inputs, list) else []

    async def outcomes(self, batch: Batch) -> list[Outcome]:
        """The outcome of a batch, in parts where some of it fails."""
        try:
            return [await self._outcome(batch)]
        except OF_AN_ENTRY as error:
            count = len(batch.rows)
            divisible = count > 1 and isinstance(error, DIVISIBLE) and batch.fault is None
            if not divisible or await self._blames_all(batch, error):
                return [Outcome(batch, error=error)]
        half = count // 2
        return [
            *await self.outcomes(batch.part(0, half)),
            *await self.outcomes(batch.part(half, count)),
        ]

    async def _outcome(self, batch: Batch) -> Outcome:
        if batch.fault is not None:
            raise batch.fault
        last = batch.start + len(batch.rows) - 1
        logger.debug("entries %d to %d: sending", batch.start, last)
        operation = ops.Infer(self._job.model, batch.request, self._job.version, self._job.binary)
        flow = self._job.policy.calling(operation)
        try:
            result: InferResult = await drive_async(flow, self._transport)
        except ClientError as error:
            logger.debug("entries %d to %d: %s", batch.start, last, error.message)
            raise
        logger.debug("entries %d to %d: answered", batch.start, last)
        batch.divide(result)
        return Outcome(batch, result)

    async def _blames_all(self, batch: Batch, error: ClientError) -> bool:
        """Whether the first and the last entry fail alike, as when a column is missing."""
        last = len(batch.rows) - 1
        for position in (0, last):
            try:
                await self._outcome(batch.part(position, position + 1))
            except OF_AN_ENTRY as single:
                if single.message != error.message:
                    return False
            else:
                return False
        return True


def _identity(job: Job) -> dict[str, Any]:
    """What two runs must have in common for the second to resume the first."""
    stat = job.input.stat()
    return {
        "input": str(job.input.resolve()),
        "size": stat.st_size,
        "modified": stat.st_mtime_ns,
        "model": job.model,
        "version": job.version,
    }
