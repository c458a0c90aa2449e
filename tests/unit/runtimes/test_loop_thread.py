"""Coroutines that threads wait for, on one loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from contextvars import Context, ContextVar
from typing import Any, cast

import pytest

from headrace.errors import Cancelled
from headrace.runners.current_call import CURRENT, EndpointCall
from headrace.runtimes.loop_thread import LoopThread

WHO: ContextVar[str] = ContextVar("who", default="nobody")
PATIENCE = 30


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    loop = LoopThread("test")
    yield loop
    loop.close()


class Endless:
    """Waits for ever; says when it began and when it was ended."""

    def __init__(self) -> None:
        self.began, self.ended = threading.Event(), threading.Event()

    async def wait(self) -> None:
        try:
            self.began.set()
            await asyncio.sleep(3600)
        finally:
            self.ended.set()

    async def pieces(self) -> AsyncGenerator[int, None]:
        yield 1
        await self.wait()


def test_a_coroutine_answers_the_thread_that_waits(loop: LoopThread) -> None:
    async def double(value: int) -> int:
        await asyncio.sleep(0)
        return value * 2

    assert loop.run(double(4)) == 8


def test_what_a_coroutine_raises_is_raised_in_the_thread(loop: LoopThread) -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="^no$"):
        loop.run(fail())


def test_coroutines_share_one_loop(loop: LoopThread) -> None:
    async def running() -> Any:
        return asyncio.get_running_loop()

    assert loop.run(running()) is loop.run(running())


def test_a_coroutine_has_the_context_variables_of_its_thread(loop: LoopThread) -> None:
    async def who() -> str:
        return WHO.get()

    def ask(name: str) -> Any:
        WHO.set(name)
        return loop.run(who())

    assert [Context().run(ask, name) for name in ("a", "b")] == ["a", "b"]


def test_a_generators_pieces_come_in_order_and_then_its_error(loop: LoopThread) -> None:
    async def pieces() -> AsyncGenerator[int | None, None]:
        yield 1
        yield None
        raise ValueError("no")

    found = loop.iterate(pieces())

    assert [next(found), next(found)] == [1, None]
    with pytest.raises(ValueError, match="^no$"):
        next(found)


def test_a_generator_runs_in_one_context_from_beginning_to_end(loop: LoopThread) -> None:
    async def pieces() -> AsyncGenerator[str, None]:
        token = WHO.set("me")
        yield WHO.get()
        yield WHO.get()
        # Raises in any other context.
        WHO.reset(token)

    assert list(loop.iterate(pieces())) == ["me", "me"]


def test_a_generator_is_no_more_than_two_pieces_ahead(loop: LoopThread) -> None:
    made: list[int] = []

    async def pieces() -> AsyncGenerator[int, None]:
        for number in range(100):
            made.append(number)
            yield number

    found = loop.iterate(pieces())
    next(found)
    found.close()  # type: ignore[attr-defined]

    assert len(made) <= 3


def test_closing_the_iterator_ends_the_generator_where_it_waits(loop: LoopThread) -> None:
    endless = Endless()
    found = loop.iterate(endless.pieces())
    next(found)
    endless.began.wait(PATIENCE)
    found.close()  # type: ignore[attr-defined]

    assert endless.ended.is_set()


@pytest.mark.parametrize("kind", ["coroutine", "generator"])
def test_cancelling_the_call_ends_what_runs_for_it(loop: LoopThread, kind: str) -> None:
    endless = Endless()
    call = EndpointCall(cast(Any, None), None, "")
    raised: list[BaseException] = []

    def work() -> None:
        CURRENT.set(call)
        try:
            if kind == "coroutine":
                loop.run(endless.wait())
            else:
                list(loop.iterate(endless.pieces()))
        except Cancelled as error:
            raised.append(error)

    thread = threading.Thread(target=Context().run, args=(work,))
    thread.start()
    assert endless.began.wait(PATIENCE)
    call.cancel()
    thread.join(PATIENCE)

    assert raised
    assert endless.ended.wait(PATIENCE)


@pytest.mark.parametrize("kind", ["coroutine", "generator"])
def test_what_begins_for_a_cancelled_call_ends_too(loop: LoopThread, kind: str) -> None:
    endless = Endless()
    call = EndpointCall(cast(Any, None), None, "")
    call.cancel()

    def work() -> None:
        CURRENT.set(call)
        if kind == "coroutine":
            loop.run(endless.wait())
        else:
            list(loop.iterate(endless.pieces()))

    with pytest.raises(Cancelled):
        Context().run(work)


def test_closing_the_loop_ends_what_runs_on_it() -> None:
    loop, endless = LoopThread("test"), Endless()
    thread = threading.Thread(target=lambda: pytest.raises(Cancelled, loop.run, endless.wait()))
    thread.start()
    assert endless.began.wait(PATIENCE)
    loop.close()
    thread.join(PATIENCE)

    assert endless.ended.is_set()
    assert not thread.is_alive()
