"""A call that is given to a canary: if that fails, the stable version answers it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Generic, Protocol, TypeVar

from headrace.dataplane.call import Call, Calls
from headrace.errors import DeadlineExceeded, HeadraceError
from headrace.serving.served_model import ServedModel

logger = logging.getLogger("headrace.dataplane")

# The part of the time for a request after which the stable version is asked too.
PATIENCE = 0.5


class Prepared(Protocol):
    """A request that is decoded for one model; `timeout` is in seconds."""

    @property
    def timeout(self) -> float | None: ...


P = TypeVar("P", bound=Prepared)
T = TypeVar("T")


class CanaryCall(Generic[P]):
    """One call whose `model` is a canary.

    Whatever the canary does, its caller gets an answer if the stable version has one. A request
    that both fail gets the error of the stable version, and says nothing about the canary.

    `prepare` decodes the request for a model, of whose time so many seconds have passed.
    """

    def __init__(
        self, calls: Calls, call: Call, prepare: Callable[[ServedModel, float], Awaitable[P]]
    ) -> None:
        assert call.model is not None, "it was chosen"
        assert call.traffic is not None, "it has a canary"
        self._calls = calls
        self._call = call
        self._prepare = prepare
        self._canary = call.model
        self._traffic = call.traffic
        self._has_begun = False

    async def answer(self, ask: Callable[[P], Awaitable[T]]) -> T:
        """The answer of the canary, or that of the stable version.

        If the canary has not answered in half of the time, the stable version is asked too, and
        the first answer counts.

        Raises:
            HeadraceError: why the stable version does not answer either.
        """
        overdue: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        tasks = [_asked(self._ask_canary(ask, overdue))]
        try:
            either: list[asyncio.Future[Any]] = [tasks[0], overdue]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if _has_answered(tasks[0]):
                return tasks[0].result()
            stable = self._stable()
            tasks.append(_asked(self._ask(ask, stable)))
            while not any(map(_has_answered, tasks)) and not all(each.done() for each in tasks):
                waiting = [each for each in tasks if not each.done()]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if _has_answered(tasks[0]):
                return tasks[0].result()
            self._leave_to(stable)
            answer = tasks[1].result()
            self._failed(_error_of(tasks[0]))
            return answer
        finally:
            overdue.cancel()
            for task in tasks:
                task.cancel()

    async def stream(self, open: Callable[[P], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        """The pieces of the canary's answer, or of the stable version's if there is no first one.

        Raises:
            HeadraceError: as `answer`; also in the middle, when the canary fails later.
        """
        try:
            async with asyncio.timeout(None) as limit:
                prepared = await self._prepared(self._canary)
                limit.reschedule(asyncio.get_running_loop().time() + self._patience(prepared))
                pieces = open(prepared)
                first = await anext(pieces, None)
        except Exception as exc:
            async for piece in self._stream_stable(open, exc):
                yield piece
            return
        async with aclosing(pieces):
            if first is not None:
                yield first
            try:
                async for piece in pieces:
                    yield piece
            except Exception as exc:
                self._call.given = None
                self._traffic.failed(self._canary, _kind(exc))
                raise

    async def _stream_stable(
        self, open: Callable[[P], AsyncGenerator[T, None]], error: Exception
    ) -> AsyncGenerator[T, None]:
        stable = self._stable()
        self._leave_to(stable)
        has_failed = True
        async with aclosing(open(await self._prepared(stable))) as pieces:
            async for piece in pieces:
                if has_failed:
                    has_failed = False
                    self._failed(error)
                yield piece

    async def _ask_canary(
        self, ask: Callable[[P], Awaitable[T]], overdue: asyncio.Future[None]
    ) -> T:
        prepared = await self._prepared(self._canary)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._patience(prepared), _set, overdue)
        try:
            return await ask(prepared)
        finally:
            timer.cancel()

    async def _ask(self, ask: Callable[[P], Awaitable[T]], model: ServedModel) -> T:
        return await ask(await self._prepared(model))

    async def _prepared(self, model: ServedModel) -> P:
        """The request for one of the two models, once observers have seen the call."""
        waited = 0.0 if model is self._canary else self._call.seconds
        prepared = await self._prepare(model, waited)
        if not self._has_begun:
            self._has_begun = True
            self._calls.begin(self._call)
        return prepared

    def _patience(self, prepared: P) -> float:
        limit = self._canary.infer_timeout
        return PATIENCE * (limit if prepared.timeout is None else min(limit, prepared.timeout))

    def _stable(self) -> ServedModel:
        stable = self._traffic.stable
        assert stable is not None, "there is no canary without it"
        return stable

    def _leave_to(self, stable: ServedModel) -> None:
        self._call.model, self._call.given = stable, None

    def _failed(self, error: BaseException) -> None:
        """Count a request that the canary failed and the stable version answers."""
        canary = self._canary
        logger.warning(
            "version %s failed a request, which another version answers: %s",
            canary.version, error.args[0] if error.args else type(error).__name__,
            extra={
                "model": canary.name, "version": canary.version, "kind": _kind(error),
                "request_id": self._call.request_id,
            },
        )  # fmt: skip
        self._traffic.failed(canary, _kind(error))


def _asked(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task whose failure may be left unread."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def _has_answered(task: asyncio.Future[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _error_of(task: asyncio.Future[Any]) -> BaseException:
    """Why a task has no answer."""
    error = task.exception() if task.done() and not task.cancelled() else None
    return error or DeadlineExceeded("it took half of the time for the request, and more")


def _kind(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return DeadlineExceeded.kind
    return error.kind if isinstance(error, HeadraceError) else HeadraceError.kind


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
